"""Months are the partitions of the event table. They are made ahead of time and dropped whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime

from psycopg2 import errors as pg_errors
from psycopg2 import sql

from eventsvc.log.connection import LOCK_TIMEOUT, Connection, fetch, patiently, transaction

MONTH = "date_trunc('month', created_at AT TIME ZONE 'UTC')::date"  # the month of an event, in SQL
_AHEAD = 3  # months made beyond the current one


def month_of(created_at: int) -> date:
    """Give the first day of the UTC month that holds a time in milliseconds since 1970."""
    return datetime.fromtimestamp(created_at // 1000, UTC).date().replace(day=1)


def next_month(month: date) -> date:
    """Give the first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def start_of(month: date) -> datetime:
    """Give the first instant of a month."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def bounds(month: date) -> tuple[str, str]:
    """Give the first instants of a month and of the next month, for SQL."""
    return f"{month} 00:00:00+00", f"{next_month(month)} 00:00:00+00"


def partition_name(month: date) -> str:
    """Name the table that holds a month's events."""
    return f"event_{month:%Y_%m}"


def list_months(connection: Connection) -> list[date]:
    """List the months that have a partition, oldest first."""
    rows = fetch(
        connection,
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'event'::regclass"
        " AND inhrelid <> 'event_default'::regclass",
    )
    return sorted(datetime.strptime(name, "event_%Y_%m").replace(tzinfo=UTC).date() for (name,) in rows)


def list_default(connection: Connection) -> list[date]:
    """List the months that have events in the default partition, because no partition was made in time."""
    rows = fetch(connection, f"SELECT DISTINCT {MONTH} FROM event_default")  # noqa: S608  (a constant)
    return sorted(month for (month,) in rows)


def list_filled(connection: Connection) -> list[date]:
    """List the months that have events, oldest first."""
    statement = "SELECT 1 FROM event WHERE created_at >= %s AND created_at < %s LIMIT 1"
    filled = [month for month in list_months(connection) if fetch(connection, statement, bounds(month))]
    return sorted({*filled, *list_default(connection)})


def count_events(connection: Connection, month: date) -> int:
    """Count a month's events."""
    ((count,),) = fetch(
        connection, "SELECT count(*) FROM event WHERE created_at >= %s AND created_at < %s", bounds(month)
    )
    return int(count)


def ensure_months(connection: Connection, first: date, last: date) -> list[date]:
    """Make the missing partitions from one month to another (both included); return the months made.

    Events of such a month that are in the default partition move into the new partition. In this case, and for the
    current month, readers and writers wait a moment. Several processes may do this at the same time.

    Raises:
        LogError: other sessions kept the log locked for a minute.
    """
    made = []
    present = set(list_months(connection))
    for month in _range(first.replace(day=1), last.replace(day=1)):
        if month not in present:
            _make_patiently(connection, month)
            made.append(month)
    return made


def ensure_months_ahead(connection: Connection) -> list[date]:
    """Make the current month (by the database's clock) and the months ahead."""
    ((today,),) = fetch(connection, "SELECT (now() AT TIME ZONE 'UTC')::date")
    last = today
    for _ in range(_AHEAD):
        last = next_month(last)
    return ensure_months(connection, today, last)


def count_default(connection: Connection) -> int:
    """Count the events in the default partition. More than 0 means that a month was not made in time."""
    ((count,),) = fetch(connection, "SELECT count(*) FROM event_default")
    return int(count)


def empty_default(connection: Connection) -> list[date]:
    """Make the months of the events in the default partition, which move there; return the months made."""
    return [made for month in list_default(connection) for made in ensure_months(connection, month, month)]


def drop_partition(connection: Connection, month: date) -> None:
    """Drop a month's partition, inside the caller's transaction if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(partition_name(month))))


def _range(first: date, last: date) -> Iterator[date]:
    month = first
    while month <= last:
        yield month
        month = next_month(month)


class _EventsCameMeanwhileError(Exception):
    """Events of the month came into the default partition after the check for such events."""


def _make_patiently(connection: Connection, month: date) -> None:
    failure = f"month {month:%Y-%m} could not be made: others kept the log locked; try again"
    with suppress(pg_errors.DuplicateTable, pg_errors.UniqueViolation):  # another process made it meanwhile
        patiently(lambda: _make(connection, month), failure, again=_EventsCameMeanwhileError)


# To plan a statement, a session first reads the list of partitions and then waits for a lock on the default partition.
# So a SELECT would look for moved events in the old place, and an INSERT would put an event into the default partition,
# which PostgreSQL refuses. A lock on the parent makes both wait before they read the list.
_EVENTS_MOVE = """
    SELECT EXISTS (SELECT 1 FROM event_default WHERE created_at >= {low} AND created_at < {high})
        OR clock_timestamp() >= {low} AND clock_timestamp() < {high}
"""
_MOVE = """
    WITH moved AS (DELETE FROM event_default WHERE created_at >= {low} AND created_at < {high} RETURNING *)
    INSERT INTO {new} SELECT * FROM moved
"""


def _make(connection: Connection, month: date) -> None:
    """Make a table, fill it from the default partition, and attach it.

    Unlike CREATE … PARTITION OF, ATTACH locks the parent only against other changes of its structure (PostgreSQL
    documentation, "ALTER TABLE", ATTACH PARTITION).
    """
    names = {
        "new": sql.Identifier(partition_name(month)),
        "low": sql.Literal(f"{month} 00:00:00+00"),
        "high": sql.Literal(f"{next_month(month)} 00:00:00+00"),
    }
    ((events_move,),) = fetch(connection, sql.SQL(_EVENTS_MOVE).format(**names))
    with transaction(connection, lock_timeout=LOCK_TIMEOUT) as cursor:
        if events_move:
            cursor.execute("LOCK TABLE ONLY event IN ACCESS EXCLUSIVE MODE")
        cursor.execute(sql.SQL("CREATE TABLE {new} (LIKE event INCLUDING DEFAULTS)").format(**names))
        cursor.execute("LOCK TABLE event_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(sql.SQL(_MOVE).format(**names))
        if cursor.rowcount and not events_move:
            raise _EventsCameMeanwhileError
        cursor.execute(
            sql.SQL("ALTER TABLE event ATTACH PARTITION {new} FOR VALUES FROM ({low}) TO ({high})").format(**names)
        )
