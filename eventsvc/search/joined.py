"""Index and tail, joined in one snapshot of the log.

The order is the proof: one statement gives the watermark W, what lies past it, and what to leave out; only then
the index is asked, for seqs up to W. Whatever the indexer does meanwhile, each event is on exactly one side.

An answer of the index at W and an erasure epoch never changes, so it is kept, and used with the tail past W.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from eventsvc.breaker import Breaker
from eventsvc.errors import IndexUnavailable
from eventsvc.index.hits import MOST_EXCLUDED, Hits, Scope
from eventsvc.log.question import Moment
from eventsvc.search.cache import Cache, Kept, Key, Weighty

# A kept answer is no longer worth it when so many seqs have come since.
_LONGEST_CACHED_TAIL = 20_000


class _Tail(Protocol):
    @property
    def moment(self) -> Moment: ...


TailT = TypeVar("TailT", bound=_Tail)
IndexT = TypeVar("IndexT", bound=Weighty)


@dataclass(frozen=True, slots=True)
class Both(Generic[IndexT, TailT]):
    """The two sides of an answer."""

    index: IndexT
    tail: TailT
    cached: bool


class Joined:
    """Asks both sides; holds what must outlive a request: breaker, cache, and what was last seen erased."""

    def __init__(self, hits: Hits | None, *, alias: str, cache_size: int) -> None:
        self._hits, self._alias = hits, alias
        self._cache = Cache(cache_size)
        self._breaker = Breaker(self._probe, name="the index")
        self._erased: tuple[int, ...] = ()

    @property
    def obstacle(self) -> str:
        """Why the index need not be asked at all; "" when it should be."""
        if self._hits is None:
            return "no index"
        return "" if self._breaker.closed else "index away"

    async def both(
        self,
        key: Key | None,
        tail: Callable[[int | None], Awaitable[TailT]],
        ask: Callable[[Hits, Scope], Awaitable[IndexT]],
    ) -> Both[IndexT, TailT]:
        """Ask the log for the tail, then the index or the cache for what lies before it.

        Args:
            key: of the question; equal keys have equal answers at equal moments. None: nothing is kept.
            tail: gives the tail past this seq, or past the watermark for None.
            ask: asks the index.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        kept = self._cache.get(key) if key is not None else None
        past = await tail(kept.scope.watermark if kept else None)
        if kept is not None and not _still_good(kept, past.moment):
            kept, past = None, await tail(None)
        moment = past.moment
        self._erased = moment.erased
        if kept is not None:
            return Both(kept.answer, past, cached=True)
        scope = _scope(moment)
        answer = await self._ask(ask, scope)
        if key is not None:
            self._cache.put(key, Kept(scope, moment.epoch, _failed(moment, moment.watermark), answer))
        return Both(answer, past, cached=False)

    async def index_only(self, ask: Callable[[Hits, Scope], Awaitable[IndexT]]) -> IndexT:
        """Ask the index for all it has, without the log; what was erased may show until the index lets go of it.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        return await self._ask(ask, Scope((self._alias,), None, self._erased[-MOST_EXCLUDED:]))

    async def _ask(self, ask: Callable[[Hits, Scope], Awaitable[IndexT]], scope: Scope) -> IndexT:
        if self._hits is None:
            raise IndexUnavailable("there is no index")
        began = time.monotonic()
        try:
            return await ask(self._hits, scope)
        except IndexUnavailable:
            self._breaker.failed(began)
            raise

    async def _probe(self) -> None:
        if self._hits is not None:
            await self._hits.probe(self._alias)

    async def close(self) -> None:
        """Stop what runs in the background."""
        await self._breaker.close()


def _scope(moment: Moment) -> Scope:
    excluded = (*moment.erased, *moment.failed)
    if len(excluded) > MOST_EXCLUDED:
        raise IndexUnavailable(f"{len(excluded)} single events would have to be left out of the hits")
    return Scope(moment.indexes, moment.watermark, excluded)


def _failed(moment: Moment, watermark: int) -> frozenset[int]:
    return frozenset(seq for seq in moment.failed if seq <= watermark)


def _still_good(kept: Kept, moment: Moment) -> bool:
    """Tell whether a kept answer and the tail past its watermark are together what the log holds at this moment."""
    floor = kept.scope.watermark or 0
    return (
        kept.epoch == moment.epoch
        and 0 <= moment.watermark - floor <= _LONGEST_CACHED_TAIL
        and set(kept.scope.indexes) <= set(moment.indexes)
        and kept.failed == _failed(moment, floor)
    )
