"""A few at a time; the others wait for their turn, as long as they are not too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eventsvc.errors import SearchesQueued


def refuse_search(count: int) -> SearchesQueued:
    """Make the error for a search that comes when too many run or wait."""
    return SearchesQueued(f"{count} searches run or wait")


class Turns:
    """An async context manager; whoever comes when too many wait is refused.

    Args:
        at_once: how many may be inside.
        most_waiting: how many more may wait.
        refuse: makes the error for who is refused, out of how many are inside or wait.
    """

    def __init__(self, at_once: int, most_waiting: int, refuse: Callable[[int], Exception] = refuse_search) -> None:
        self._refuse = refuse
        self._places, self._most, self._count = asyncio.Semaphore(at_once), at_once + most_waiting, 0

    async def __aenter__(self) -> None:
        """Wait for a place.

        Raises:
            SearchesQueued: too many wait already; or what ``refuse`` makes.
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
        """Give the place to the next."""
        self._places.release()
        self._count -= 1
