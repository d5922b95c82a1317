"""What the log knows of the index: which index holds which month, and which events it refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg2.extras import execute_values

from eventsvc.log.connection import Connection, transaction
from eventsvc.log.months import next_month
from eventsvc.log.progress import watermark


@dataclass(frozen=True, slots=True)
class IndexMonth:
    """The index of one month.

    Attributes:
        name: of the index.
        uuid: of the index; another one under that name was not filled by us.
        filled_to: the month's events with seq ≤ this are in it, wherever the checkpoint is.
    """

    month: date
    name: str
    uuid: str
    filled_to: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that Elasticsearch will not take; the reason quotes nothing of it."""

    seq: int
    month: date
    reason: str


def list_indexes(connection: Connection) -> dict[date, IndexMonth]:
    """Map each indexed month to its index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT month, index_name, index_uuid, filled_to FROM index_month ORDER BY month")
        return {row[0]: IndexMonth(*row) for row in cursor}


def add_index(connection: Connection, fence: int, month: date, name: str, uuid: str) -> IndexMonth:
    """Record a new month's index, before its first document is written.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        cursor.execute(
            "INSERT INTO index_month (month, index_name, index_uuid) VALUES (%s, %s, %s)", (month, name, uuid)
        )
    return IndexMonth(month, name, uuid, 0)


def replace_lost_index(connection: Connection, fence: int | None, month: date, name: str, uuid: str) -> None:
    """Put an empty index in the place of a lost one; the watermark falls back to before the month's first event.

    So the whole month is tail, answered by SQL, until the indexer has filled it again. The other months' events
    in that range are in their indexes; filled_to says so.

    Args:
        connection: of the log.
        fence: the leader's; None for others, who only make a running leader start again.
        month: whose index is lost.
        name: of the new one.
        uuid: of the new one.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        if fence is None:
            watermark.draw_fence_within(cursor)
        else:
            watermark.hold(cursor, fence)
        cursor.execute(
            "UPDATE index_month SET filled_to = greatest(filled_to, (SELECT seq FROM watermark)) WHERE month <> %s",
            (month,),
        )
        cursor.execute(
            "INSERT INTO index_month (month, index_name, index_uuid) VALUES (%s, %s, %s) ON CONFLICT (month)"
            " DO UPDATE SET index_name = excluded.index_name, index_uuid = excluded.index_uuid, filled_to = 0",
            (month, name, uuid),
        )
        cursor.execute("DELETE FROM index_failure WHERE month = %s", (month,))
        cursor.execute("SELECT min(seq) FROM event WHERE created_at >= %s AND created_at < %s", bounds(month))
        ((first,),) = cursor.fetchall()
        watermark.fall_back(cursor, first - 1 if first is not None else 2**62)


def bounds(month: date) -> tuple[str, str]:
    """Give the first moment of a month and that of the next, for SQL."""
    return f"{month} 00:00:00+00", f"{next_month(month)} 00:00:00+00"


def record_refusals(connection: Connection, fence: int, refusals: Iterable[Refusal]) -> None:
    """Remember what the index refused: those seqs count as tail from now on.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        insert_refusals(cursor, refusals)


def insert_refusals(cursor: Any, refusals: Iterable[Refusal]) -> None:
    """Do so within the caller's transaction; the latest reason counts."""
    execute_values(
        cursor,
        "INSERT INTO index_failure (seq, month, reason) VALUES %s ON CONFLICT (seq)"
        " DO UPDATE SET reason = excluded.reason, failed_at = clock_timestamp()",
        [(refusal.seq, refusal.month, refusal.reason) for refusal in refusals],
    )
