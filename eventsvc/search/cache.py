"""A cache of index answers. What the index answers about one state of the log never changes.

``Attempt`` in both_stores.py decides whether a cached answer still holds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from eventsvc.log.read.state import LogState

CacheKey = tuple[object, ...]


class Weighty(Protocol):
    """A value that can estimate its own size in memory."""

    def weigh(self) -> int:
        """Estimate the bytes that the value takes."""


class Cache:
    """Keeps the most recently used answers, up to a number of bytes. Each key has one answer: the latest."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._kept: OrderedDict[CacheKey, tuple[LogState, Any, int]] = OrderedDict()

    def get(self, key: CacheKey) -> tuple[LogState, Any] | None:
        """Give the answer of a key and the state that it is about."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        base, answer, _ = self._kept[key]
        return base, answer

    def put(self, key: CacheKey, base: LogState, answer: Weighty) -> None:
        """Keep an answer instead of the older answer of this key. Drop the least recently used answers if necessary."""
        self.drop(key)
        weight = len(repr(key)) + answer.weigh()
        self._kept[key] = base, answer, weight
        self._used += weight
        while self._used > self._size:
            self.drop(next(iter(self._kept)))

    def drop(self, key: CacheKey) -> None:
        """Remove the answer of a key, if there is one."""
        if key in self._kept:
            self._used -= self._kept.pop(key)[2]

    @property
    def used(self) -> int:
        """Estimated bytes in use."""
        return self._used
