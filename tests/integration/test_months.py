"""Months that are made late: events leave the default partition while others read and write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pytest

from eventsvc.log.connection import Connection, connect
from eventsvc.log.months import ensure_months, partition_name

_MOVED = date(2012, 5, 1)
_WAITS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s"
)


def execute(connection: Connection, statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def held_up(log: Any, database: str, waiting: Callable[..., Any]) -> Any:
    """Run a statement beside ``ensure_months``, which is held up while it moves events."""

    def run(month: date, statement: str) -> list[Any]:
        # Moving waits for this lock, with all of its own already taken.
        log.fetch(
            "CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;"
            "CREATE TRIGGER wait_for_test AFTER DELETE ON event_default FOR EACH STATEMENT"
            " EXECUTE FUNCTION wait_for_test(); SELECT pg_advisory_lock(1)"
        )
        mover, other = connect(database), connect(database)
        try:
            with ThreadPoolExecutor(2) as threads:
                moved = threads.submit(ensure_months, mover, month, month)
                waiting(lambda: log.fetch(_WAITS, "%DELETE FROM event_default%"))
                found = threads.submit(execute, other, statement)
                waiting(lambda: log.fetch(_WAITS, f"{statement[:20]}%"))
                log.fetch("SELECT pg_advisory_unlock(1)")
                assert moved.result() == [month]
                return found.result()
        finally:
            mover.close()
            other.close()

    return run


def test_a_select_that_waits_while_events_are_moved_finds_them(log: Any, held_up: Any) -> None:
    log.insert(3, at="'2012-05-05'")
    assert held_up(_MOVED, "SELECT seq FROM event ORDER BY seq") == [(1,), (2,), (3,)]
    assert log.fetch("SELECT count(*) FROM event_2012_05") == [(3,)]


def test_an_insert_that_waits_while_its_month_is_made_is_stored_in_it(log: Any, held_up: Any) -> None:
    month = datetime.now(UTC).date().replace(day=1)
    log.fetch(f"DROP TABLE {partition_name(month)}; SELECT 1")
    held_up(
        month,
        "INSERT INTO event (id, email, environment, component, message, data)"
        " VALUES (gen_random_uuid(), 'a@b.test', 'e', 'c', 'm', '{}')",
    )
    assert log.fetch(f"SELECT count(*) FROM {partition_name(month)}") == [(1,)]
