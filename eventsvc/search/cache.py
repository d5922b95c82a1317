"""Answers of the index, kept: an answer about some moment of the log never changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from eventsvc.log.read.state import Moment

Key = tuple[object, ...]
Kept = tuple[Moment, Any]  # the moment that an answer is about, and the answer


class Weighty(Protocol):
    """Something that knows about how much memory it takes."""

    def weigh(self) -> int:
        """Estimate the bytes it takes."""


class Cache:
    """The most recently used answers that fit into so many bytes; one per key, the latest put in."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._kept: OrderedDict[Key, tuple[Kept, int]] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """Give what is kept under a key."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Key, base: Moment, answer: Weighty) -> None:
        """Keep an answer, in the place of an older one, and of others if need be."""
        self.drop(key)
        weight = len(repr(key)) + answer.weigh()
        self._kept[key] = (base, answer), weight
        self._used += weight
        while self._used > self._size:
            self.drop(next(iter(self._kept)))

    def drop(self, key: Key) -> None:
        """Forget an answer."""
        if key in self._kept:
            self._used -= self._kept.pop(key)[1]

    @property
    def used(self) -> int:
        """Estimated bytes in use."""
        return self._used
