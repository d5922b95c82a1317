"""Let a few callers in at a time. Others wait for their turn, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eventsvc.errors import SearchesQueued


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
