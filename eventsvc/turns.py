"""Bound the work of many callers: let a few of them in at a time (``Turns``), or work for all at once (``Shared``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from eventsvc.errors import SearchesQueued

T = TypeVar("T")


def _refuse_search(count: int) -> SearchesQueued:
    """Make the error for a search that is refused because too many run or wait."""
    return SearchesQueued(f"{count} searches run or wait")


class Turns:
    """An async context manager that admits a few callers at a time and refuses callers when too many wait.

    Args:
        at_once: how many callers may be inside.
        most_waiting: how many more callers may wait.
        refuse: makes the error for a refused caller, given how many callers are inside or wait.
    """

    def __init__(self, at_once: int, most_waiting: int, refuse: Callable[[int], Exception] = _refuse_search) -> None:
        self._refuse = refuse
        self._places, self._most, self._count = asyncio.Semaphore(at_once), at_once + most_waiting, 0

    async def __aenter__(self) -> None:
        """Wait for a place.

        Raises:
            SearchesQueued: too many callers wait already (or the error that ``refuse`` makes).
        """
        if self._count >= self._most:
            raise self._refuse(self._count)
        self._count += 1
        try:
            await self._places.acquire()
        except BaseException:
            self._count -= 1
            raise

    async def __aexit__(self, *_exc: object) -> None:
        """Let the next caller in."""
        self._places.release()
        self._count -= 1


class Shared(Generic[T]):
    """An async function that works once for all callers that wait at the same time. So a flood of callers costs little.

    The work begins after the call, so no caller gets a result from before the call.

    Args:
        work: the work.
        rest: seconds between the end of the work and its next beginning.
    """

    def __init__(self, work: Callable[[], Awaitable[T]], rest: float) -> None:
        self._work, self._rest, self._rested = work, rest, 0.0
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[T] | None = None  # waits for its turn, so that more callers can join

    async def __call__(self) -> T:
        """Wait for the result of the work."""
        if self._next is None:
            self._next = asyncio.create_task(self._do())
        return await asyncio.shield(self._next)  # a caller that leaves does not stop the work for the others

    async def _do(self) -> T:
        async with self._turn:
            await asyncio.sleep(self._rested - time.monotonic())
            self._next = None
            try:
                return await self._work()
            finally:
                self._rested = time.monotonic() + self._rest
