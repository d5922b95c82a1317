"""Connections while PostgreSQL comes and goes, and what its errors become."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from eventsvc.errors import LogError, LogTimeout, LogUnavailable
from eventsvc.log.connection import Pool, connect, translate_errors

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def _backend(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        ((pid,),) = cursor.fetchall()
    return int(pid)


def test_a_connection_that_the_server_dropped_while_idle_costs_no_request(
    database: str, connection: Connection
) -> None:
    pool = Pool(database, size=1)
    try:
        with pool.connection() as lent:
            first = _backend(lent)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (first,))
        with pool.connection() as lent:
            assert _backend(lent) != first
    finally:
        pool.close()


def test_a_request_that_cannot_connect_leaves_nothing_behind() -> None:
    """Its timer would hold it for ever: a log that is away for an hour would cost the memory of all requests."""

    class Work:
        def __call__(self, connection: Connection) -> None:
            """Never called."""

    async def ask(pool: Pool) -> weakref.ref[Work]:
        work = Work()
        with pytest.raises(LogUnavailable):
            await pool.run(work)
        return weakref.ref(work)

    async def main() -> None:
        pool = Pool("host=127.0.0.1 port=9", size=1, statement_timeout=60.0)
        left = await ask(pool)
        pool.close()  # its thread, and the event loop, forget the work a moment after the answer
        await asyncio.sleep(0)
        gc.collect()
        assert left() is None

    asyncio.run(main())


def test_a_healthy_connection_is_used_again(database: str) -> None:
    pool = Pool(database, size=1)
    try:
        with pool.connection() as lent:
            first = _backend(lent)
        with pool.connection() as lent:
            assert _backend(lent) == first
    finally:
        pool.close()


def test_a_deadlock_is_not_reported_as_a_server_that_cannot_be_reached(database: str) -> None:
    sessions = connect(database), connect(database)
    for number, session in enumerate(sessions):
        _execute(session, "BEGIN", f"SELECT pg_advisory_xact_lock({number})")
    with ThreadPoolExecutor(2) as threads:
        crossed = [
            threads.submit(_execute, session, f"SELECT pg_advisory_xact_lock({1 - number})", "COMMIT")
            for number, session in enumerate(sessions)
        ]
        found = [one.exception() for one in crossed]
    (deadlock,) = [exc for exc in found if exc is not None]
    assert type(deadlock) is LogError
    assert "try again: deadlock detected" in str(deadlock)
    for session in sessions:
        session.close()


def test_a_server_that_has_answered_is_not_reported_as_out_of_reach(database: str, connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE event")
        session = connect(database)
        with pytest.raises(LogUnavailable, match="cannot serve this: canceling statement due to lock timeout"):
            _execute(session, "SET lock_timeout = 10", "SELECT FROM event")
        session.close()


def _execute(connection: Connection, *statements: str) -> None:
    with translate_errors(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_a_server_that_does_not_keep_its_time_limit_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the coordinator of Citus, which waits for a worker that hangs even to cancel a statement."""
    monkeypatch.setattr("eventsvc.log.connection._OVERTIME", 0.1)
    pool = Pool(database, size=1, statement_timeout=0.2)
    try:
        with pytest.raises(LogTimeout):
            asyncio.run(pool.run(lambda lent: _execute(lent, "SET statement_timeout = 0", "SELECT pg_sleep(600)")))
        assert asyncio.run(pool.run(_backend))  # the only thread is free again
    finally:
        pool.close()


def test_an_internal_problem_of_the_server_is_an_error_of_the_log(connection: Connection) -> None:
    """As when the coordinator of Citus loses a worker in the middle of a COPY."""
    with pytest.raises(LogError, match="internal problem: a worker is gone"), translate_errors():
        _execute(connection, "DO $$ BEGIN RAISE 'a worker is gone' USING ERRCODE = 'XX000'; END $$")


def test_the_statement_of_a_caller_that_gives_up_is_cancelled(database: str) -> None:
    """And one that has not begun never begins; the pool goes on."""

    async def scenario() -> None:
        pool = Pool(database, size=1)
        watcher = connect(database)

        def sleep(connection: Connection) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(60)")

        def sleeping() -> int:
            with watcher.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND query = 'SELECT pg_sleep(60)' AND state = 'active'"
                )
                return int(cursor.fetchall()[0][0])

        async def wait_for(count: int) -> None:
            async with asyncio.timeout(30):
                while await asyncio.to_thread(sleeping) != count:  # noqa: ASYNC110  (the server tells nobody)
                    await asyncio.sleep(0.02)

        running, waiting = (asyncio.create_task(pool.run(sleep)) for _ in range(2))
        await wait_for(1)
        for task in (waiting, running):
            task.cancel()
        await asyncio.wait({running, waiting})
        await wait_for(0)
        assert await asyncio.wait_for(pool.run(lambda connection: connection.closed), 30) == 0
        watcher.close()
        await asyncio.to_thread(pool.close)

    asyncio.run(scenario())
