"""Table index_month: which index holds which month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from eventsvc.log.connection import Connection, transaction
from eventsvc.log.months import bounds
from eventsvc.log.progress import refusals, watermark


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
        refusals.forget_month(cursor, month)
        cursor.execute("SELECT min(seq) FROM event WHERE created_at >= %s AND created_at < %s", bounds(month))
        ((first,),) = cursor.fetchall()
        watermark.fall_back(cursor, first - 1 if first is not None else 2**62)


def forget_month(cursor: Any, month: date) -> list[str]:
    """Forget the index of a month that is dropped, and list its name. Runs inside the caller's transaction."""
    cursor.execute("DELETE FROM index_month WHERE month = %s RETURNING index_name", (month,))
    return [name for (name,) in cursor]
