"""Answers of the index, kept: at a watermark and an erasure epoch they never change."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from eventsvc.index.hits import Page, Scope

_PER_EVENT = 700  # bytes that an Event weighs beside its message and data: objects, short fields, times

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A page of hits, and what it is an answer about.

    Attributes:
        failed: the seqs up to the scope's watermark that the index had refused.
    """

    scope: Scope
    epoch: int
    failed: frozenset[int]
    page: Page

    def weigh(self) -> int:
        """Estimate the bytes it takes."""
        return _PER_EVENT + sum(_PER_EVENT + 2 * len(e.message) + 2 * len(e.data) for e in self.page.events)


class Cache:
    """The most recently used answers that fit into so many bytes; one per key, the one of the newest watermark."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """Give what is kept under a key."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: Key, kept: Kept) -> None:
        """Keep an answer, in the place of an older one, and of others if need be."""
        self.drop(key)
        self._kept[key] = kept
        self._used += kept.weigh()
        while self._used > self._size:
            _, oldest = self._kept.popitem(last=False)
            self._used -= oldest.weigh()

    def drop(self, key: Key) -> None:
        """Forget an answer."""
        old = self._kept.pop(key, None)
        if old is not None:
            self._used -= old.weigh()

    @property
    def used(self) -> int:
        """Estimated bytes in use."""
        return self._used
