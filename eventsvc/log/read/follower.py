"""Follow the log in a thread: read new events up to the horizon, again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsvc.errors import EventsvcError
from eventsvc.log.connection import Connection, connect, fetch, translate_errors
from eventsvc.log.progress.horizon import Horizon, read_last_seq
from eventsvc.log.read.batches import Batch, read_batch

T = TypeVar("T")

MOST = 500  # events at a time
MOST_CHARACTERS = 1_000_000  # of text at a time
_TIMEOUT = 30.0  # seconds a statement may take
_REMEMBERED = 5_000  # events that were read last

_PRESENT = "SELECT seq, id::text FROM event WHERE seq >= %s AND seq <= %s"


class Follower:
    """Reads new events through one connection in one thread. A call after a failure connects again.

    After a failover without a synchronous standby, the log may lack its last events, and give their seqs to other
    events. So with each new connection, the follower goes back to the last event that it has read and that the log
    still has: every later event is new.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="follower")
        self._connection: Connection | None = None
        self._horizon: Horizon | None = None
        self._reached = 0
        self._recent: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)  # seqs and ids

    async def find_end(self) -> int:
        """Give the last seq that was drawn, where ``read`` begins. Later transactions draw higher seqs.

        Events with a lower seq may still be under way: see ``read``.

        Raises:
            LogUnavailable: PostgreSQL is away.
        """
        self._reached = await self.work(lambda: self._with_connection(lambda connection, _: read_last_seq(connection)))
        return self._reached

    async def read(self) -> Batch | None:
        """Read the next events, up to the horizon.

        Returns:
            None while a transaction that may have drawn a seq up to the place that was reached is under way.

        Raises:
            LogUnavailable: PostgreSQL is away.
            EventsvcError: the log does not have any of the events that were read last, so the place is unknown.
        """
        return await self.work(lambda: self._with_connection(self._read))

    async def work(self, what: Callable[[], T]) -> T:
        """Run work in the follower's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def _with_connection(self, work: Callable[[Connection, Horizon], T]) -> T:
        try:
            if self._connection is None or self._horizon is None:
                self._connection = connect(self._dsn, statement_timeout=_TIMEOUT, application_name="eventsvc live")
                self._horizon = Horizon(self._connection)
                with translate_errors():
                    self._go_back(self._connection)
            with translate_errors():
                return work(self._connection, self._horizon)
        except BaseException:
            self._disconnect()
            raise

    def _go_back(self, connection: Connection) -> None:
        """Go back to the last event that was read and that the log still has."""
        if not self._recent:
            self._reached = min(self._reached, read_last_seq(connection))
            return
        present = fetch(connection, _PRESENT, (self._recent[0][0], self._reached))
        kept = set(self._recent).intersection(present)
        if not kept:
            raise EventsvcError("the log has none of the events that the live tail has read last")
        while self._recent[-1] not in kept:
            self._recent.pop()
        self._reached = self._recent[-1][0]

    def _read(self, connection: Connection, horizon: Horizon) -> Batch | None:
        upto = horizon.poll()
        if upto < self._reached:
            return None
        batch = Batch((), upto, 0)
        if upto > self._reached:
            batch = read_batch(
                connection, after=self._reached, to=upto, most=MOST, most_characters=MOST_CHARACTERS, fetch=50
            )
        self._recent.extend((event.seq, event.id) for event in batch.events)
        self._reached = batch.reached
        return batch

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._horizon = None

    async def close(self) -> None:
        """Close the connection."""
        await self.work(self._disconnect)
        self._thread.shutdown()
