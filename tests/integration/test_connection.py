"""Connections while PostgreSQL comes and goes, and what its errors become."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from eventsvc.errors import LogError, LogUnavailable
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
