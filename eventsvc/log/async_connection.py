"""A connection to PostgreSQL that waits in the event loop. Only the writer of single events uses it.

PERF: everything else uses psycopg2 in threads. For the writer, a thread would cost a third of a worker's CPU time: at
each answer of the server, the thread would take the interpreter's lock from an event loop that is never idle.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Self

import psycopg2
from psycopg2 import extensions

from eventsvc.log.connection import KEEP_VALUES_OUT, PATIENCE, is_readable, session_options

Rows = list[tuple[Any, ...]]


def split_hosts(dsn: str) -> list[str]:
    """Split a DSN that names several hosts into a DSN for each host."""
    parts = extensions.parse_dsn(dsn)
    hosts, ports = parts.get("host", "").split(","), parts.get("port", "").split(",")
    if len(hosts) == 1 or "hostaddr" in parts:
        return [dsn]
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [
        extensions.make_dsn(**parts | {"host": host, "port": port or None})
        for host, port in zip(hosts, ports, strict=True)
    ]


class AsyncConnection:
    """A connection in autocommit mode, for one statement at a time."""

    def __init__(self, connection: extensions.connection) -> None:
        self._connection = connection
        self.status: str | None = None  # of the last statement
        self.distributed = False  # whether the log is spread over several servers

    @classmethod
    async def open(cls, dsn: str, *, application_name: str, patience: float, statement_timeout: float) -> Self:
        """Connect to the first host that answers and fits target_session_attrs.

        Each host gets an equal part of the patience, because libpq ignores connect_timeout on such a connection and
        would spend all the time on a host that hangs.

        Raises:
            psycopg2.Error: no server answers or lets us in.
            TimeoutError: no server answered in time.
        """
        hosts = split_hosts(dsn)
        options = session_options(statement_timeout=statement_timeout)
        for host in hosts[:-1]:
            with suppress(psycopg2.Error, TimeoutError):
                return await cls._open(host, application_name, patience / len(hosts), options)
        return await cls._open(hosts[-1], application_name, patience / len(hosts), options)

    @classmethod
    async def _open(cls, dsn: str, application_name: str, patience: float, options: str) -> Self:
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
            # This runs in a thread, because it looks up the host's name. The rest does not block.
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
        """Whether the connection is closed."""
        return bool(self._connection.closed)

    @property
    def ended(self) -> bool:
        """Whether the connection broke, or the server has sent something after a statement, as when it shuts down."""
        return self.broken or is_readable(self._connection)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or has failed and waits for its ROLLBACK."""
        status: int = self._connection.info.transaction_status
        return status != extensions.TRANSACTION_STATUS_IDLE

    @property
    def notices(self) -> list[str]:
        """The notices and warnings that came with the answer to the last statement."""
        return self._connection.notices

    async def execute(self, statement: str, parameters: tuple[Any, ...] | None = None) -> Rows:
        """Run one or several statements; return the rows of the last statement.

        Raises:
            psycopg2.Error: from the driver. Its class does not tell whether the connection broke: see ``broken``.
        """
        cursor = self._connection.cursor()
        self._connection.notices.clear()
        cursor.execute(statement, parameters)
        await self._wait()
        self.status = cursor.statusmessage
        return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Close the connection at once."""
        self._connection.close()

    async def _wait(self) -> None:
        """Let the driver talk to the server until the answer is complete."""
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
