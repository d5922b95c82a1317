"""Join an answer of the index and an answer of the log into one exact answer.

A search uses a state M of the log that was read a little earlier. The index answers for the events up to the watermark
of M. Then one SQL statement, which is one snapshot, reads the events past this watermark and the present state N. If N
extends M, each event is on exactly one side, whatever the indexer does meanwhile:

    indexer   …writes, refreshes, moves the watermark at any time…
    search    state M ──► index: seq ≤ M.watermark ──► log: seq > M.watermark, and the state N
                                                        N extends M: the answer is exact; else repeat with N

The answer of the index about M never changes. So the cache keeps the answer, and later searches join the cached answer
with the tail past the same watermark.

Erased events are an exception: N does not extend M if events were erased in between. But the question may know better.
A page is still exact if none of its events is among the erased events.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from eventsvc.breaker import Breaker
from eventsvc.errors import IndexUnavailable, LogTimeout
from eventsvc.index.hits import MOST_EXCLUDED, Hits, Scope, Unsteady
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.state import LogAnswer, LogState
from eventsvc.search.cache import Cache, CacheKey, Weighty

# With an older state, the tail of a busy log would be needlessly long.
_RECENT = 1.0  # seconds
# How far the watermark may have moved since an answer's state, in seqs. A cached answer that is further behind is
# dropped: PostgreSQL would need longer for the tail than the index for a new answer.
_LONGEST_TAIL, _LONGEST_KEPT = 20_000, 2_000
_ATTEMPTS = 5


TailT = TypeVar("TailT")
IndexT = TypeVar("IndexT", bound=Weighty)
T = TypeVar("T")


class Source(StrEnum):
    """The stores that an answer was made from."""

    INDEX_AND_TAIL = "index+tail"
    CACHE_AND_TAIL = "cache+tail"
    INDEX = "index"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which stores gave an answer, and about which state of the log.

    Attributes:
        reason: why the index did not answer; "" if it did.
        state: the state of the log that the answer is about; None if the log was not asked.
        settled: see ``log.read.state.LogAnswer``.
    """

    source: Source
    reason: str = ""
    state: LogState | None = None
    settled: bool = False


class Joined:
    """Asks the index and the log. Holds what outlives a request: breaker, cache, and the last state seen."""

    def __init__(self, hits: Hits | None, reader: Reader, *, alias: str, cache_size: int) -> None:
        self._hits, self._reader, self._alias = hits, reader, alias
        self._cache = Cache(cache_size)
        self._breaker = Breaker(self._probe, name="the index")
        self._seen: tuple[float, LogState] | None = None

    @property
    def obstacle(self) -> str:
        """Why the index is not asked at all; "" if it is asked."""
        if self._hits is None:
            return "no index"
        return "" if self._breaker.closed else "index away"

    async def both(
        self,
        key: CacheKey | None,
        ask_index: Callable[[Hits, Scope], Awaitable[IndexT]],
        ask_log: Callable[[LogState, IndexT], Awaitable[LogAnswer[TailT]]],
        survives: Callable[[IndexT, TailT], bool] | None = None,
    ) -> tuple[IndexT, TailT, Provenance]:
        """Ask the index (or the cache), then ask the log for the tail.

        Args:
            key: identifies the question; equal keys have equal answers about equal states. None: do not cache.
            ask_index: asks the index about a state of the log.
            ask_log: asks the log for everything past this state, given the index's answer.
            survives: tells whether the index's answer is exact although events were erased after it was given; None: it
                never is.

        Returns:
            The index's answer, the content of the log's answer, and the provenance of both.

        Raises:
            IndexUnavailable: the index has no whole answer.
            Unsteady: the state of the log changed in each attempt, for instance because events are being erased.
            LogUnavailable: PostgreSQL is away.
            LogTimeout: the tail took PostgreSQL too long.
        """
        now = self._recent() or await self._look()
        for _ in range(_ATTEMPTS):
            # Check the cached answer before the log is read: its tail might be very long.
            kept: tuple[LogState, IndexT] | None = self._find_kept(key, now, erased=survives is not None)
            try:
                base, found = kept or (now, await self.ask(_scope_of(now), ask_index))
                tail = await ask_log(base, found)
            except IndexUnavailable:
                # If an index was replaced or lost since this state, a newer state names other indexes: try these.
                asked, now = now, await self._look()
                if now.extends(asked, most=_LONGEST_TAIL):
                    raise
                continue
            except LogTimeout:
                self._drop(key)
                raise
            now = self._see(tail.state)
            if now.extends(base, most=_LONGEST_TAIL, erased=survives is not None and survives(found, tail.content)):
                if kept is None and key is not None:
                    self._cache.put(key, base, found)
                source = Source.INDEX_AND_TAIL if kept is None else Source.CACHE_AND_TAIL
                return found, tail.content, Provenance(source, "", tail.state, tail.settled)
            self._drop(key)
        raise Unsteady("the state of the log does not stand still")

    async def _look(self) -> LogState:
        return self._see(await self._reader.state())

    def _recent(self) -> LogState | None:
        if self._seen is None or time.monotonic() - self._seen[0] > _RECENT:
            return None
        return self._seen[1]

    def _see(self, state: LogState) -> LogState:
        self._seen = time.monotonic(), state
        return state

    def _find_kept(self, key: CacheKey | None, now: LogState, *, erased: bool) -> tuple[LogState, IndexT] | None:
        kept = self._cache.get(key) if key is not None else None
        if kept is None or now.extends(kept[0], most=_LONGEST_KEPT, erased=erased):
            return kept
        self._drop(key)
        return None

    def _drop(self, key: CacheKey | None) -> None:
        if key is not None:
            self._cache.drop(key)

    async def index_only(self, ask_index: Callable[[Hits, Scope], Awaitable[T]]) -> T:
        """Ask only the index, about all documents. Erased events may show until the indexer removes their documents.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        erased = self._seen[1].erased if self._seen is not None else ()
        return await self.ask(Scope((self._alias,), None, erased[-MOST_EXCLUDED:]), ask_index)

    async def ask(self, scope: Scope, ask_index: Callable[[Hits, Scope], Awaitable[T]]) -> T:
        """Ask the index about some documents. After a first request, documents of erased events may be gone.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        if self._hits is None:
            raise IndexUnavailable("there is no index")
        began = time.monotonic()
        try:
            return await ask_index(self._hits, scope)
        except IndexUnavailable:
            self._breaker.failed(began)
            raise

    async def _probe(self) -> None:
        if self._hits is not None:
            await self._hits.probe(self._alias)

    async def close(self) -> None:
        """Stop the breaker's probes."""
        await self._breaker.close()


def _scope_of(state: LogState) -> Scope:
    """Select the documents of the index up to the watermark of a state of the log.

    Raises:
        IndexUnavailable: too many single documents would have to be excluded.
    """
    excluded = (*state.erased, *state.failed)
    if len(excluded) > MOST_EXCLUDED:
        raise IndexUnavailable(f"{len(excluded)} single events would have to be left out of the hits")
    return Scope(state.indexes, state.watermark, excluded)
