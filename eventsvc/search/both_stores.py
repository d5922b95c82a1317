"""Ask the index and the log, and tell whether the two answers make one exact answer.

A search uses a state M of the log that was read a little earlier. The index answers for the events up to the watermark
of M. One SQL statement, which is one snapshot, reads the tail past this watermark. A statement that begins after the
index has answered reads the state N, and for a page the events that the index has found. If N extends M, each event is
on exactly one side, whatever the indexer does meanwhile:

    indexer   …writes, refreshes, moves the watermark at any time…
    search    state M ─┬─► index: seq ≤ M.watermark ─┬─► log: what the index has found, and the state N
                       └─► log: seq > M.watermark ───┘   N extends M: the answer is exact; else repeat with N

If no seq past the watermark was drawn, and no writer is under way, the tail of a page is empty and is not read. For
counts, one statement reads both the tail and N. What the index answers about M never changes. So the cache keeps this
answer, and later searches join it with the tail past the same watermark.

Erased events are an exception: N does not extend M if events were erased in between. But a page is still exact if none
of its events is among the erased events.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from eventsvc.breaker import Breaker
from eventsvc.errors import IndexUnavailable, LogTimeout
from eventsvc.index.reader import MOST_EXCLUDED, IndexReader, Scope
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.state import LogState
from eventsvc.search.cache import Cache, CacheKey, Weighty

# With an older state, the tail of a busy log would be needlessly long.
_RECENT = 1.0  # seconds
# How far the watermark may have moved since an answer's state, in seqs. A cached answer that is further behind is
# dropped: PostgreSQL would need longer for the tail than the index for a new answer.
_LONGEST_TAIL, _LONGEST_KEPT = 20_000, 2_000
_ATTEMPTS = 5


class Source(StrEnum):
    """The stores that an answer was made from. LOG: the log alone, by choice; SQL: the log alone, without the index."""

    INDEX_AND_TAIL = "index+tail"
    CACHE_AND_TAIL = "cache+tail"
    INDEX = "index"
    LOG = "log"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which stores gave an answer, and about which state of the log.

    Attributes:
        reason: why the index did not answer; "" if it did, or if the log alone is faster.
        state: the state of the log that the answer is about; None if the log was not asked.
        settled: see ``log.read.state.LogAnswer``.
    """

    source: Source
    reason: str = ""
    state: LogState | None = None
    settled: bool = False


class BothStores:
    """The index and the log. Holds what outlives a request: breaker, cache, and the last state of the log seen."""

    def __init__(self, index: IndexReader | None, reader: Reader, *, alias: str, cache_size: int) -> None:
        self._index, self._reader, self._alias = index, reader, alias
        self.cache = Cache(cache_size)
        self._breaker = Breaker(self._probe, name="the index")
        self._seen: tuple[float, LogState] | None = None

    @property
    def unavailable_because(self) -> str:
        """Why the index is not asked at all; "" if it is asked."""
        if self._index is None:
            return "no index"
        return "" if self._breaker.closed else "index away"

    def attempts(self, key: CacheKey | None, *, despite_erasures: bool = False) -> Iterator[Attempt]:
        """Give a few attempts, one after the other: each begins with the newest state that the last attempt saw.

        Args:
            key: identifies the question; equal keys have equal answers about equal states. None: do not cache.
            despite_erasures: an index answer may be exact although events were erased after it was given.
        """
        now: LogState | None = None
        for _ in range(_ATTEMPTS):
            attempt = Attempt(self, key, now, despite_erasures=despite_erasures)
            yield attempt
            now = attempt.now

    @contextmanager
    def index(self) -> Iterator[IndexReader]:
        """Give the index, to be asked. If it is away, later searches do without it until it is back.

        Raises:
            IndexUnavailable: there is no index, or it was found to be away while this search waited for its turn.
        """
        if self._index is None or self.unavailable_because:
            raise IndexUnavailable(self.unavailable_because)
        began = time.monotonic()
        try:
            yield self._index
        except IndexUnavailable:
            self._breaker.failed(began)
            raise

    @property
    def scope_of_all(self) -> Scope:
        """All documents of the index. Erased events may show until the indexer removes their documents."""
        erased = self._seen[1].erased if self._seen is not None else ()
        return Scope((self._alias,), None, erased[-MOST_EXCLUDED:])

    async def read_state(self, age: float = 0.0) -> LogState:
        """Give the last state of the log that was seen, if it is less than so many seconds old, or read the state."""
        if self._seen is not None and time.monotonic() - self._seen[0] < age:
            return self._seen[1]
        return self.see(await self._reader.state())

    def see(self, state: LogState) -> LogState:
        """Remember a state that the log has just given."""
        self._seen = time.monotonic(), state
        return state

    async def _probe(self) -> None:
        if self._index is not None:
            await self._index.probe(self._alias)

    async def close(self) -> None:
        """Stop the breaker's probes."""
        await self._breaker.close()


class Attempt:
    """One attempt to answer from both stores; ``async with`` it, ask the index, ask the log, then ask ``holds``.

    If the index is away because an index was replaced or lost since the state was read, the block is left quietly, and
    the next attempt asks the new indexes. Any other error leaves the block, and so ends the search.

    Attributes:
        now: the newest state of the log that this attempt knows.
        base: the state that the index answer is about.
        cached: the index answer from the cache; None if the index must be asked.
        source: the stores that are asked.
    """

    base: LogState

    def __init__(
        self, stores: BothStores, key: CacheKey | None, now: LogState | None, *, despite_erasures: bool
    ) -> None:
        self._stores, self._key, self._despite_erasures = stores, key, despite_erasures
        self.now = now
        self.cached: Any = None
        self.source = Source.INDEX_AND_TAIL

    async def __aenter__(self) -> Self:
        now = self.now or await self._stores.read_state(_RECENT)
        self.now = self.base = now
        # Check the cached answer before the log is read: its tail might be very long.
        kept = self._stores.cache.get(self._key) if self._key is not None else None
        if kept is not None and now.extends(kept[0], most=_LONGEST_KEPT, despite_erasures=self._despite_erasures):
            self.base, self.cached = kept
            self.source = Source.CACHE_AND_TAIL
        elif kept is not None:
            self._drop()
        return self

    async def __aexit__(self, _type: object, exc: BaseException | None, _traceback: object) -> bool:
        if isinstance(exc, LogTimeout):
            self._drop()
        if not isinstance(exc, IndexUnavailable):
            return False
        asked, self.now = self.now, await self._stores.read_state()
        return asked is not None and not self.now.extends(asked, most=_LONGEST_TAIL)

    @property
    def scope(self) -> Scope:
        """The documents that the index answer is about: those up to the watermark of ``base``.

        Raises:
            IndexUnavailable: too many single documents would have to be excluded.
        """
        excluded = (*self.base.erased, *self.base.refused)
        if len(excluded) > MOST_EXCLUDED:
            raise IndexUnavailable(f"{len(excluded)} single events would have to be left out of the hits")
        return Scope(self.base.indexes, self.base.watermark, excluded)

    def holds(
        self, found: Weighty, state: LogState, tail: LogState | None = None, *, despite_erasures: bool = False
    ) -> bool:
        """Tell whether the index answer and the log answer make one exact answer, and cache the index answer if so.

        Args:
            found: the index answer.
            state: a state of the log that was read after the index had answered.
            tail: the state that the log answer is about, if this is another one.
            despite_erasures: the index answer is exact even if events were erased after it was given.
        """
        self.now = self._stores.see(state)
        if not state.extends(self.base, most=_LONGEST_TAIL, despite_erasures=despite_erasures):
            self._drop()
            return False
        if tail is not None and not state.has_the_events_of(tail):
            return False
        if self.cached is None and self._key is not None:
            self._stores.cache.put(self._key, self.base, found)
        return True

    def _drop(self) -> None:
        if self._key is not None:
            self._stores.cache.drop(self._key)
