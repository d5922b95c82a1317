"""Follow the log in a thread: read new events up to the horizon, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsvc.log.connection import Connection, connect, translate_errors
from eventsvc.log.progress.horizon import Horizon, read_last_seq
from eventsvc.log.read.batches import Batch, read_batch

T = TypeVar("T")

MOST = 500  # events at a time
MOST_CHARACTERS = 1_000_000  # of text at a time
_TIMEOUT = 30.0  # seconds a statement may take


class Follower:
    """Reads new events through one connection in one thread. A call after a failure connects again."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="follower")
        self._connection: Connection | None = None
        self._horizon: Horizon | None = None

    async def find_end(self) -> int:
        """Give the last seq that was drawn. Every transaction that begins from now on draws a higher seq.

        Events with a lower seq may still be under way: see ``read``.

        Raises:
            LogUnavailable: PostgreSQL is away.
        """
        return await self.work(lambda: self._with_connection(lambda connection, _: read_last_seq(connection)))

    async def read(self, after: int) -> Batch:
        """Read the events after a seq, up to the horizon.

        ``reached`` is below ``after`` while a transaction that may have drawn a seq up to ``after`` is under way.

        Raises:
            LogUnavailable: PostgreSQL is away.
        """
        return await self.work(lambda: self._with_connection(lambda connection, h: _read(connection, h, after)))

    async def work(self, what: Callable[[], T]) -> T:
        """Run work in the follower's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

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
        await self.work(self._disconnect)
        self._thread.shutdown()


def _read(connection: Connection, horizon: Horizon, after: int) -> Batch:
    reached = horizon.poll()
    if reached <= after:
        return Batch((), reached, 0)
    return read_batch(connection, after=after, to=reached, most=MOST, most_characters=MOST_CHARACTERS, fetch=50)
