"""Following the log in a thread of its own: what has come since, up to the horizon, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsvc.log.connection import Connection, connect, translate_errors
from eventsvc.log.progress.horizon import Horizon
from eventsvc.log.read.batches import Batch, read_batch

T = TypeVar("T")

MOST = 500  # events at a time
_PATIENCE = 1.0  # seconds to wait for writers under way before starting without what they have drawn
_PAUSE = 0.01
_TIMEOUT = 30.0  # seconds a statement may take

_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_seq_seq"


class Follower:
    """One connection and one thread; goes on by itself when PostgreSQL was away."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="follower")
        self._connection: Connection | None = None
        self._horizon: Horizon | None = None

    async def find_end(self) -> int:
        """Give a seq such that every event whose writing starts from now on lies beyond it.

        Raises:
            LogUnavailable: PostgreSQL is away.
        """
        return await self._run(_find_end)

    async def read(self, after: int) -> Batch:
        """Give what follows on a seq, as far as it is certain that nothing can come in between.

        Raises:
            LogUnavailable: PostgreSQL is away.
        """
        return await self._run(lambda connection, horizon: _read(connection, horizon, after))

    async def _run(self, work: Callable[[Connection, Horizon], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._with_connection, work)

    def _with_connection(self, work: Callable[[Connection, Horizon], T]) -> T:
        if self._connection is None or self._horizon is None:
            self._connection = connect(self._dsn, statement_timeout=_TIMEOUT, application_name="eventsvc live")
            self._horizon = Horizon(self._connection)
        try:
            with translate_errors():
                return work(self._connection, self._horizon)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._horizon = None

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()


def _find_end(connection: Connection, horizon: Horizon) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_DRAWN)
        ((drawn,),) = cursor.fetchall()
    # Whoever has drawn a seq is waited for, so that what commits from now on lies beyond; but not for long.
    deadline = time.monotonic() + _PATIENCE
    while (end := horizon.poll()) < drawn and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return max(end, int(drawn))


def _read(connection: Connection, horizon: Horizon, after: int) -> Batch:
    reached = horizon.poll()
    if reached <= after:
        return Batch((), after, 0)
    return read_batch(connection, after=after, to=reached, most=MOST)
