"""The optional trigram indexes: on every month, used by queries, and gone when they are switched off."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg2.extensions
import pytest
from psycopg2.extras import execute_values

from eventsvc.log import trigram_index
from eventsvc.log.months import ensure_months
from eventsvc.query.parse import parse
from eventsvc.query.to_sql import to_sql

_INDEXES = "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'event_%%' AND indexdef LIKE '%%gin_trgm_ops%%'"
_MONTHS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass"


def _value(connection: psycopg2.extensions.connection, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()[0][0]


@pytest.fixture
def filled(connection: psycopg2.extensions.connection) -> psycopg2.extensions.connection:
    """A log of 20,000 events, in two months and the default partition."""
    ensure_months(connection, date(2018, 1, 1), date(2018, 2, 1))
    rows = [
        (f"user{n}@example.com", f"Request {n} took {n * 7919 % 1000} ms; ÄÖÜ {n % 7}", f"2018-{1 + n % 3:02}-01")
        for n in range(20_000)
    ]
    with connection.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO event (id, email, message, created_at, environment, component, data) VALUES %s",
            rows,
            template="(gen_random_uuid(), %s, %s, %s::timestamptz, 'production', 'orders', '{}')",
            page_size=5000,
        )
        cursor.execute("ANALYZE event")
    return connection


def _plan(connection: psycopg2.extensions.connection, text: str) -> str:
    where, values = to_sql(parse(text, now=0))
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN SELECT seq FROM event WHERE {where}", values)
        return "\n".join(line for (line,) in cursor)


def _count(connection: psycopg2.extensions.connection, text: str) -> int:
    where, values = to_sql(parse(text, now=0))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM event WHERE {where}", values)
        return int(cursor.fetchall()[0][0])


_QUERIES = ["message ct 'REQUEST 123 TOOK'", "message ct 'äöü 3'", "message sw 'request 19999'", "email ct 'R4711@'",
            "message ct 'a'", "message ct '%'", "NOT message ct 'ms; ä'"]  # fmt: skip


def test_queries_use_them_and_find_the_same(filled: psycopg2.extensions.connection) -> None:
    before = [_count(filled, text) for text in _QUERIES]
    assert not trigram_index.enabled(filled)
    made = trigram_index.enable(filled)
    assert len(made) == 2 * _value(filled, _MONTHS)
    assert trigram_index.enabled(filled)
    assert [_count(filled, text) for text in _QUERIES] == before
    for text in ("message ct 'REQUEST 123 TOOK'", "message sw 'request 19999'", "email ct 'R4711@'"):
        assert "_trigrams" in _plan(filled, text)


def test_a_month_made_later_has_them_too(connection: psycopg2.extensions.connection) -> None:
    trigram_index.enable(connection)
    ensure_months(connection, date(2019, 5, 1), date(2019, 5, 1))
    assert _value(connection, _INDEXES) == 2 * _value(connection, _MONTHS)
    assert trigram_index.enabled(connection)
    assert trigram_index.enable(connection) == []


def test_switching_off_removes_them_all(connection: psycopg2.extensions.connection) -> None:
    trigram_index.disable(connection)  # there are none
    trigram_index.enable(connection)
    trigram_index.disable(connection)
    assert _value(connection, _INDEXES) == 0
    assert not trigram_index.enabled(connection)


def test_what_an_interrupted_build_left_is_built_again(connection: psycopg2.extensions.connection) -> None:
    """CREATE INDEX CONCURRENTLY that fails leaves an invalid index behind."""
    trigram_index.enable(connection)
    trigram_index.disable(connection)
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX event_default_message_trigrams ON event_default (lower(message))")
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'event_default_message_trigrams'::regclass"
        )
    assert "event_default_message_trigrams" in trigram_index.enable(connection)
    assert trigram_index.enabled(connection)
