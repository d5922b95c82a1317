"""The pool, while PostgreSQL comes and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventsvc.log.connection import Pool

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
