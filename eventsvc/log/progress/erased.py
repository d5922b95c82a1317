"""Erase events from the log, and record the erased events whose documents may still be in the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from eventsvc.log.connection import Connection, fetch, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.months import MONTH
from eventsvc.log.progress import watermark


@dataclass(frozen=True, slots=True)
class Erased:
    """An erased event whose document may still be in the index."""

    seq: int
    month: date


_FIND = """
SELECT id::text, created_at, seq FROM event WHERE ({matching}) AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s
"""
# Because this is one statement, every search sees all of it or nothing: the events are gone, hits leave out their
# documents, and cached answers of the old epoch are void. The index may hold the document of an event already, or get
# it later from a leader that has read the event before.
_ERASE = f"""
WITH gone AS (
    DELETE FROM event USING unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS found (event_id, stored_at)
    WHERE id = event_id AND created_at = stored_at
    RETURNING seq, id, {MONTH} AS month
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
class FoundEvents:
    """Events that an erasure has found: their primary keys, and the highest seq among them (0 for no events)."""

    ids: list[str]
    times: list[datetime]
    last_seq: int


def find(cursor: Any, which: Filter, *, after: int, upto: int, limit: int) -> FoundEvents:
    """Find the first ``limit`` matching events with after < seq ≤ upto, in seq order. Locks nothing."""
    cursor.execute(_FIND.format(matching=which.text), (*which.parameters, after, upto, limit))
    rows = cursor.fetchall()
    return FoundEvents([row[0] for row in rows], [row[1] for row in rows], rows[-1][2] if rows else 0)


def erase(cursor: Any, found: FoundEvents, *, erasure_id: str | None) -> int:
    """Erase the events that were found; return how many of them still existed. Runs inside the caller's transaction.

    From the commit on, no search shows the events. The horizon waits for the transaction, as for that of a writer.

    Args:
        cursor: the cursor of the transaction.
        found: the events that ``find`` gave.
        erasure_id: the erasure under which the ids of the events are recorded; None records no ids.
    """
    cursor.execute(_ERASE, {"ids": found.ids, "times": found.times, "erasure": erasure_id})
    ((count,),) = cursor.fetchall()
    return int(count)


def count_erased(connection: Connection) -> int:
    """Count the erased events that the indexer has not yet removed from the index."""
    ((count,),) = fetch(connection, "SELECT count(*) FROM erased")
    return int(count)


def list_of_month(connection: Connection, month: date) -> list[int]:
    """List the seqs of a month's erased events that the indexer has not yet removed from the index."""
    return [seq for (seq,) in fetch(connection, "SELECT seq FROM erased WHERE month = %s", (month,))]


def list_erased(connection: Connection, most: int) -> list[Erased]:
    """List erased events whose documents the indexer must remove, lowest seq first.

    Events of months that are being rebuilt are left out: the next index may still get their documents, so their rows
    stay in the table until the rebuild has ended.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, month FROM erased WHERE month NOT IN (SELECT month FROM index_rebuild WHERE old_name IS NULL)"
            " ORDER BY seq LIMIT %s",
            (most,),
        )
        return [Erased(*row) for row in cursor]


def read_epoch(connection: Connection) -> int:
    """Read the erasure epoch, a number that each erasure raises."""
    ((epoch,),) = fetch(connection, "SELECT epoch FROM erasure_epoch")
    return int(epoch)


def draw_epoch(cursor: Any) -> None:
    """Draw the next erasure epoch, which makes every cached answer of the index void."""
    cursor.execute("UPDATE erasure_epoch SET epoch = epoch + 1")


def forget_month(cursor: Any, month: date) -> None:
    """Forget the erased events of a month that is dropped. Runs inside the caller's transaction."""
    cursor.execute("DELETE FROM erased WHERE month = %s", (month,))


def forget(connection: Connection, fence: int, erased: Sequence[Erased]) -> None:
    """Delete the records of erased events whose documents are gone from the index.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        cursor.execute("DELETE FROM erased WHERE seq = ANY (%s)", ([one.seq for one in erased],))
