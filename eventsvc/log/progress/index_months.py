"""Table index_month: the current index of each month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from eventsvc.log.connection import Connection, fetch, transaction
from eventsvc.log.months import bounds
from eventsvc.log.progress import refusals, watermark
from eventsvc.log.progress.horizon import BEYOND_ALL


@dataclass(frozen=True, slots=True)
class IndexMonth:
    """The index of one month.

    Attributes:
        name: the name of the index.
        uuid: the uuid of the index. An index of this name with another uuid was not filled by us.
        filled_to: the index holds the month's events with seq ≤ this, even if the checkpoint is lower.
    """

    month: date
    name: str
    uuid: str
    filled_to: int


def list_indexes(connection: Connection) -> dict[date, IndexMonth]:
    """Map each indexed month to its index."""
    rows = fetch(connection, "SELECT month, index_name, index_uuid, filled_to FROM index_month ORDER BY month")
    return {row[0]: IndexMonth(*row) for row in rows}


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
    """Record an empty index in the place of a lost index, and move the watermark before the month's first event.

    So the whole month belongs to the tail, which SQL answers, until the indexer has filled the index again. The events
    of other months past the new watermark are still in their indexes; ``filled_to`` records this.

    Args:
        connection: a connection to the log.
        fence: the leader's fence; None for other callers, which draw the next fence, so that a leader starts again.
        month: the month whose index is lost.
        name: the name of the new index.
        uuid: the uuid of the new index.

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
        watermark.fall_back(cursor, first - 1 if first is not None else BEYOND_ALL)


def forget_month(cursor: Any, month: date) -> list[str]:
    """Delete the record of a dropped month's index; return its name. Runs inside the caller's transaction."""
    cursor.execute("DELETE FROM index_month WHERE month = %s RETURNING index_name", (month,))
    return [name for (name,) in cursor]
