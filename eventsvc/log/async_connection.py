"""One connection to PostgreSQL that waits in the event loop: for the writer alone.

PERF: everything else uses psycopg2 in threads. For the writer of single events a thread costs a third of a worker's
CPU time: at each answer of the server it has to take the interpreter's lock from a loop that is never idle.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

import psycopg2
from psycopg2 import extensions

from eventsvc.log.connection import KEEP_VALUES_OUT, PATIENCE, session_options

Rows = list[tuple[Any, ...]]


class AsyncConnection:
    """Autocommit, one statement at a time."""

    def __init__(self, connection: extensions.connection) -> None:
        self._connection = connection
        self.status: str | None = None  # of the last statement
        self.distributed = False  # whether the log is spread over several servers

    @classmethod
    async def open(cls, dsn: str, *, application_name: str, patience: float, statement_timeout: float) -> Self:
        """Connect.

        Raises:
            psycopg2.Error: the server does not answer or does not let us in.
            TimeoutError: not in time.
        """
        options = session_options(statement_timeout=statement_timeout)

        def begin() -> extensions.connection:
            begun: extensions.connection = psycopg2.connect(
                dsn,
                async_=1,
                application_name=application_name,
                options=options,
                **PATIENCE,
            )
            return begun

        async with asyncio.timeout(patience):
            # In a thread, for it looks the host's name up; what follows does not block.
            connection = await asyncio.to_thread(begin)
            opened = cls(connection)
            try:
                await opened._wait()
                await opened.execute(KEEP_VALUES_OUT)
            except BaseException:
                opened.close()
                raise
        return opened

    @property
    def broken(self) -> bool:
        """Whether it can be used no more."""
        return bool(self._connection.closed)

    async def execute(self, statement: str, parameters: tuple[Any, ...] | None = None) -> Rows:
        """Run a statement, or several; give the rows of the last.

        Raises:
            psycopg2.Error: as the driver does; look at ``broken``, its classes do not tell.
        """
        cursor = self._connection.cursor()
        cursor.execute(statement, parameters)
        await self._wait()
        self.status = cursor.statusmessage
        return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Close it, at once."""
        self._connection.close()

    async def _wait(self) -> None:
        """Let the driver talk to the server until it has all it waits for."""
        loop = asyncio.get_running_loop()
        while (state := self._connection.poll()) != extensions.POLL_OK:
            ready = loop.create_future()
            number = self._connection.fileno()
            add, remove = (
                (loop.add_reader, loop.remove_reader)
                if state == extensions.POLL_READ
                else (loop.add_writer, loop.remove_writer)
            )
            add(number, _set, ready)
            try:
                await ready
            finally:
                remove(number)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
