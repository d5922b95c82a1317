"""A few at a time; the others wait for their turn, as long as they are not too many."""

from __future__ import annotations

import asyncio

from eventsvc.errors import SearchesQueued


class Turns:
    """An async context manager; whoever comes when too many wait is refused.

    Args:
        at_once: how many may be inside.
        most_waiting: how many more may wait.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._places, self._most, self._count = asyncio.Semaphore(at_once), at_once + most_waiting, 0

    async def __aenter__(self) -> None:
        """Wait for a place.

        Raises:
            SearchesQueued: too many wait already.
        """
        if self._count >= self._most:
            raise SearchesQueued(f"{self._count} searches run or wait")
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
