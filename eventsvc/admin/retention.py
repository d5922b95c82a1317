"""Months and what they take up; dropping those that are too old."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from psycopg2 import errors as pg_errors

from eventsvc.admin.rebuild import list_rebuilds
from eventsvc.admin.stores import Stores
from eventsvc.errors import LogError
from eventsvc.index import indexes
from eventsvc.index.client import translate_errors
from eventsvc.log import months
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.progress import index_months, watermark
from eventsvc.log.progress.index_months import IndexMonth

# Dropping needs the log for itself for a moment; whoever waits for that makes everybody behind wait too.
_LOCK_TIMEOUT = "300ms"
_LOCK_ATTEMPTS = 100

_BATCH = 2_000
# Searches leave out what is being erased by a list of seqs; a long one would send them to PostgreSQL.
_MOST_ERASED = 4_000
_ERASE_PATIENCE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class MonthSize:
    """What one month takes up.

    Attributes:
        table_bytes: with indexes; 0 for months that lie in the default partition.
        index: its name; "" when there is none.
        documents: None when the index is not there, or Elasticsearch away.
    """

    month: date
    events: int
    table_bytes: int
    index: str
    documents: int | None
    index_bytes: int | None

    @property
    def generation(self) -> int | None:
        """How often the month's index was built; None when there is none."""
        return indexes.generation_of_name(self.index) if self.index else None


def list_sizes(stores: Stores) -> list[MonthSize]:
    """Give the size of each month, oldest first.

    Raises:
        IndexUnavailable: Elasticsearch is configured, and away.
    """
    indexes = index_months.list_indexes(stores.connection)
    index_sizes = _index_sizes(stores)
    tables = {month: _table_size(stores.connection, month) for month in months.list_months(stores.connection)}
    return [
        _size(month, *tables.get(month, (0, 0)), indexes.get(month), index_sizes)
        for month in sorted(tables.keys() | indexes.keys())
    ]


def _size(
    month: date, events: int, table_bytes: int, index: IndexMonth | None, index_sizes: dict[str, tuple[int, int]]
) -> MonthSize:
    name = index.name if index else ""
    documents, index_bytes = index_sizes.get(name, (None, None))
    return MonthSize(month, events, table_bytes, name, documents, index_bytes)


def _table_size(connection: Connection, month: date) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM event WHERE created_at >= %s AND created_at < %s),"
            " pg_total_relation_size(%s::regclass)",
            (*index_months.bounds(month), months.partition_name(month)),
        )
        ((events, size),) = cursor.fetchall()
    return int(events), int(size)


def _index_sizes(stores: Stores) -> dict[str, tuple[int, int]]:
    if stores.elasticsearch is None:
        return {}
    with translate_errors():
        answer = stores.elasticsearch.indices.stats(
            index=f"{stores.settings.index_prefix}-v*", metric="docs,store", filter_path="indices.*.primaries"
        )
    found = answer.body.get("indices", {})
    return {
        name: (one["primaries"]["docs"]["count"], one["primaries"]["store"]["size_in_bytes"])
        for name, one in found.items()
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What pruning would take away.

    Attributes:
        cutoff: events older than this go.
        months: that go whole, with how many events each holds.
        partial: the month in which only a part goes, with how many events; None if there is none.
        unused: indexes of months before the cutoff that no month uses any more.
    """

    cutoff: datetime
    months: tuple[tuple[date, int], ...]
    partial: tuple[date, int] | None
    unused: tuple[str, ...]


def plan(stores: Stores, cutoff: datetime) -> Plan:
    """See what is older than a moment."""
    connection = stores.connection
    known = sorted(
        {*months.list_months(connection), *index_months.list_indexes(connection), *_default_months(connection)}
    )
    whole = [month for month in known if _start_of(months.next_month(month)) <= cutoff]
    boundary = cutoff.date().replace(day=1)
    left = _count(connection, _start_of(boundary), cutoff)
    return Plan(
        cutoff,
        tuple((month, _count(connection, _start_of(month), _start_of(months.next_month(month)))) for month in whole),
        (boundary, left) if left else None,
        tuple(name for name in list_unused(stores) if _is_before(name, cutoff)),
    )


def _default_months(connection: Connection) -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM event_default")
        return [month for (month,) in cursor]


def _start_of(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def _count(connection: Connection, start: datetime, end: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event WHERE created_at >= %s AND created_at < %s", (start, end))
        ((count,),) = cursor.fetchall()
    return int(count)


def list_unused(stores: Stores) -> list[str]:
    """List the indexes under our names that no month uses: left behind by a kill, or not ours."""
    if stores.elasticsearch is None:
        return []
    used = {index.name for index in index_months.list_indexes(stores.connection).values()}
    for rebuild in list_rebuilds(stores.connection).values():
        used |= {rebuild.name, rebuild.old_name or rebuild.name}
    existing = indexes.list_all(stores.elasticsearch, stores.settings.index_prefix)
    return [name for name in existing if name not in used]


def _is_before(name: str, cutoff: datetime) -> bool:
    month = indexes.month_of_name(name)
    return _start_of(months.next_month(month)) <= cutoff


def prune(stores: Stores, plan: Plan, advance: Callable[[int], None]) -> None:
    """Take away what the plan says: month by month, then the part of a month by batches.

    Raises:
        LogError: the log could not be locked, or the indexer does not erase.
    """
    for month, events in plan.months:
        for name in _drop_month(stores.connection, month):
            if stores.elasticsearch is not None:
                indexes.delete(stores.elasticsearch, name)
        advance(events)
    for name in plan.unused:
        indexes.delete(stores.client, name)
    if plan.partial is not None:
        for events in _erase_before(stores, plan.partial[0], plan.cutoff):
            advance(events)


def _drop_month(connection: Connection, month: date) -> list[str]:
    """Drop the month from the log, and all that the log knows of its index, in one transaction; name the indexes.

    So no search ever sees the one without the other; the indexes are removed afterwards.
    """
    for _ in range(_LOCK_ATTEMPTS):
        try:
            with transaction(connection) as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
                watermark.draw_fence_within(cursor)
                names = _forget_month(cursor, month)
                months.drop_month(connection, month)
                # A month that was not made in time lies there.
                cursor.execute(
                    "DELETE FROM event_default WHERE created_at >= %s AND created_at < %s", index_months.bounds(month)
                )
        except pg_errors.LockNotAvailable:
            time.sleep(0.2)
            continue
        return names
    raise LogError(f"month {month:%Y-%m} could not be dropped: long transactions keep the log locked; try again")


_FORGET = (
    "DELETE FROM index_failure WHERE month = %s",
    "DELETE FROM erased WHERE month = %s",
)


def _forget_month(cursor: Any, month: date) -> list[str]:
    cursor.execute("UPDATE erasure_epoch SET epoch = epoch + 1")
    for statement in _FORGET:
        cursor.execute(statement, (month,))
    names = []
    cursor.execute("DELETE FROM index_month WHERE month = %s RETURNING index_name", (month,))
    names += [name for (name,) in cursor]
    cursor.execute("DELETE FROM index_rebuild WHERE month = %s RETURNING index_name, old_name", (month,))
    names += [name for row in cursor for name in row if name]
    return names


# One statement, so one snapshot for every search: the events are gone, and their documents are left out of hits.
_ERASE = """
    WITH gone AS (
        DELETE FROM event WHERE (id, created_at) IN (
            SELECT id, created_at FROM event WHERE created_at >= %(start)s AND created_at < %(end)s
            ORDER BY created_at, seq LIMIT %(batch)s)
        RETURNING seq
    ), listed AS (
        INSERT INTO erased (seq, month) SELECT seq, %(month)s FROM gone
        WHERE EXISTS (SELECT FROM index_month WHERE month = %(month)s) ON CONFLICT DO NOTHING
    ), failures AS (
        DELETE FROM index_failure WHERE seq IN (SELECT seq FROM gone)
    ), epoch AS (
        UPDATE erasure_epoch SET epoch = epoch + 1
    )
    SELECT count(*) FROM gone
"""


def _erase_before(stores: Stores, month: date, cutoff: datetime) -> Iterator[int]:
    values = {"start": _start_of(month), "end": cutoff, "month": month, "batch": _BATCH}
    while True:
        _await_indexer(stores.connection)
        with stores.connection.cursor() as cursor:
            cursor.execute(_ERASE, values)
            ((count,),) = cursor.fetchall()
        if not count:
            return
        yield count


def _await_indexer(connection: Connection) -> None:
    """Wait while the indexer has much to erase."""
    deadline = time.monotonic() + _ERASE_PATIENCE
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM erased")
            ((count,),) = cursor.fetchall()
            if count <= _MOST_ERASED:
                return
            if time.monotonic() > deadline:
                raise LogError(f"{count} erased events wait for the indexer: is `eventsvc index` running?")
            time.sleep(0.2)
