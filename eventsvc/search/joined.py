"""Index and tail, joined in one snapshot of the log.

One statement gives the state of the log and what lies past a watermark W; the index is asked for seqs up to W.
Whatever the indexer does meanwhile, each event is on exactly one side.

An answer of the index at W never changes while its premise holds. So it is kept, and used with the tail past W. And so
both sides can be asked at the same time, the index up to the W of the last statement: whether the premise still held is
known when the tail comes, and if not, the index is asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from eventsvc.breaker import Breaker
from eventsvc.errors import IndexUnavailable
from eventsvc.index.hits import MOST_EXCLUDED, Hits, Scope
from eventsvc.log.read.state import Moment
from eventsvc.search.cache import Cache, Kept, Key, Weighty
from eventsvc.search.premise import Premise

# What was seen longer ago is no good guess: a busy log's tail would be much longer than it need be.
_GUESS_AGE = 0.5  # seconds


class _Tail(Protocol):
    @property
    def moment(self) -> Moment: ...


TailT = TypeVar("TailT", bound=_Tail)
IndexT = TypeVar("IndexT", bound=Weighty)
T = TypeVar("T")


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
        self._guess: tuple[float, Premise] | None = None

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
        """Ask the log for the tail, and the index or the cache for what lies before it.

        Args:
            key: of the question; equal keys have equal answers at equal moments. None: nothing is kept.
            tail: gives the tail past this seq, or past the watermark for None.
            ask: asks the index.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        kept = self._cache.get(key) if key is not None else None
        if kept is not None:
            past = await self._see(tail(kept.premise.watermark))
            if kept.premise.holds(past.moment):
                return Both(kept.answer, past, cached=True)
        guess = self._recent_guess()
        both = await self._at_once(guess, tail, ask) if guess is not None else None
        if guess is None or both is None:
            past = await self._see(tail(None))
            guess = Premise.of(past.moment)
            both = Both(await self._ask(ask, guess.scope), past, cached=False)
        if key is not None:
            self._cache.put(key, Kept(guess, both.index))
        return both

    async def _see(self, tail: Awaitable[TailT]) -> TailT:
        """Take note of the log's state as the tail tells it."""
        past = await tail
        self._erased = past.moment.erased
        self._guess = time.monotonic(), Premise.of(past.moment)
        return past

    def _recent_guess(self) -> Premise | None:
        if self._guess is None or time.monotonic() - self._guess[0] > _GUESS_AGE:
            return None
        return self._guess[1]

    async def _at_once(
        self,
        guess: Premise,
        tail: Callable[[int | None], Awaitable[TailT]],
        ask: Callable[[Hits, Scope], Awaitable[IndexT]],
    ) -> Both[IndexT, TailT] | None:
        """Ask both sides at the same time; None if the guess turns out not to hold."""
        asking = asyncio.create_task(self._ask(ask, guess.scope))
        asking.add_done_callback(_look_at)
        try:
            past = await self._see(tail(guess.watermark))
            return Both(await asking, past, cached=False) if guess.holds(past.moment) else None
        finally:
            asking.cancel()

    async def index_only(self, ask: Callable[[Hits, Scope], Awaitable[T]]) -> T:
        """Ask the index for all it has, without the log; what was erased may show until the index lets go of it.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        return await self._ask(ask, Scope((self._alias,), None, self._erased[-MOST_EXCLUDED:]))

    async def ask_again(self, scope: Scope, ask: Callable[[Hits, Scope], Awaitable[T]]) -> T:
        """Ask the index about a state that it was asked about before; it may have let go of erased events since.

        Raises:
            IndexUnavailable: the index has no whole answer.
        """
        return await self._ask(ask, scope)

    async def _ask(self, ask: Callable[[Hits, Scope], Awaitable[T]], scope: Scope) -> T:
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


def _look_at(asking: asyncio.Future[Any]) -> None:
    """See an error that nobody waits for any more, or asyncio would complain."""
    if not asking.cancelled():
        asking.exception()
