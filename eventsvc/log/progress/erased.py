"""Erase events from the log, and remember those whose documents may still be in the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from eventsvc.log.connection import Connection, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.progress import watermark


@dataclass(frozen=True, slots=True)
class Erased:
    """An event that is gone from the log."""

    seq: int
    month: date


_FIND = """
SELECT id::text, created_at, seq FROM event WHERE ({matching}) AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s
"""
# One statement, so one snapshot for every search: the events are gone, their documents are left out of hits, and
# whatever was kept under the old epoch is void. The index may hold a document of an event, or get it yet from a
# leader that has read the event already.
_ERASE = f"""
WITH gone AS (
    DELETE FROM event USING unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS found (id, created_at)
    WHERE event.id = found.id AND event.created_at = found.created_at
    RETURNING event.seq, event.id, date_trunc('month', event.created_at AT TIME ZONE 'UTC')::date AS month
), listed AS (
    INSERT INTO erased (seq, month) SELECT seq, month FROM gone WHERE {watermark.INDEX_IN_USE} ON CONFLICT DO NOTHING
), refusals AS (
    DELETE FROM index_failure WHERE seq IN (SELECT seq FROM gone)
), remembered AS (
    INSERT INTO erased_id (id, erasure_id) SELECT id, %(erasure)s::uuid FROM gone WHERE %(erasure)s IS NOT NULL
    ON CONFLICT DO NOTHING
), epoch AS (
    UPDATE erasure_epoch SET epoch = epoch + 1 WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone
"""  # noqa: S608  (only our own constants go into it)


@dataclass(frozen=True, slots=True)
class Found:
    """Events that an erasure has found: their primary keys, and the highest seq among them (0 when there are none)."""

    ids: list[str]
    times: list[datetime]
    last_seq: int


def find(cursor: Any, which: Filter, *, after: int, upto: int, limit: int) -> Found:
    """Find the first ``limit`` matching events with after < seq ≤ upto, in the order of seq; lock nothing."""
    cursor.execute(_FIND.format(matching=which.text), (*which.parameters, after, upto, limit))
    rows = cursor.fetchall()
    return Found([row[0] for row in rows], [row[1] for row in rows], rows[-1][2] if rows else 0)


def erase(cursor: Any, found: Found, *, erasure_id: str | None) -> int:
    """Erase the events that were found, and return how many still were there. Runs inside the caller's transaction.

    From the commit on, no search shows them. While the transaction lasts, the horizon waits for it, as for a writer's.

    Args:
        cursor: of the transaction.
        found: by ``find``.
        erasure_id: remembers the events' ids under this erasure; None remembers nothing.
    """
    cursor.execute(_ERASE, {"ids": found.ids, "times": found.times, "erasure": erasure_id})
    ((count,),) = cursor.fetchall()
    return int(count)


def count_erased(connection: Connection) -> int:
    """Count the erased events that the indexer has not yet removed from the index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM erased")
        ((count,),) = cursor.fetchall()
    return int(count)


def list_of_month(connection: Connection, month: date) -> list[int]:
    """List the seqs of a month's erased events that the indexer has not yet removed from the index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM erased WHERE month = %s", (month,))
        return [seq for (seq,) in cursor]


def list_erased(connection: Connection, most: int) -> list[Erased]:
    """List some of them, oldest first; those of months that are being rebuilt are left to the rebuild's end.

    The next index may still get a document of theirs, and is told by this table to remove it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, month FROM erased WHERE month NOT IN (SELECT month FROM index_rebuild WHERE old_name IS NULL)"
            " ORDER BY seq LIMIT %s",
            (most,),
        )
        return [Erased(*row) for row in cursor]


def draw_epoch(cursor: Any) -> None:
    """Draw the next erasure epoch: no kept answer of the index can be used again."""
    cursor.execute("UPDATE erasure_epoch SET epoch = epoch + 1")


def forget_month(cursor: Any, month: date) -> None:
    """Forget the erased events of a month that is dropped. Runs inside the caller's transaction."""
    cursor.execute("DELETE FROM erased WHERE month = %s", (month,))


def forget(connection: Connection, fence: int, erased: Sequence[Erased]) -> None:
    """Their documents are gone and no search sees them: nothing is left to remember.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        cursor.execute("DELETE FROM erased WHERE seq = ANY (%s)", ([one.seq for one in erased],))
