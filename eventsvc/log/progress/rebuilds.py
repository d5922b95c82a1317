"""Table index_rebuild: the months whose next index is being filled. ``swap`` makes the next index the current one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from eventsvc.log.connection import Connection, fetch


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The next index of one month.

    Attributes:
        name: the name of the next index.
        uuid: the uuid of the next index; "" until the index is made.
        done_to: the next index holds the month's events with seq ≤ this.
        old_name: the index that was replaced; None before the swap.
    """

    month: date
    name: str
    uuid: str
    done_to: int
    old_name: str | None


_COLUMNS = "month, index_name, index_uuid, done_to, old_name"


def list_rebuilds(connection: Connection) -> dict[date, Rebuild]:
    """Map months to their unfinished rebuilds."""
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM index_rebuild ORDER BY month")  # noqa: S608  (a constant)
    return {row[0]: Rebuild(*row) for row in rows}


def begin(connection: Connection, month: date, name: str, uuid: str) -> Rebuild:
    """Record a month's next index, which is still empty."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO index_rebuild (month, index_name, index_uuid) VALUES (%s, %s, %s)", (month, name, uuid)
        )
    return Rebuild(month, name, uuid, 0, None)


def advance(cursor: Any, month: date, done_to: int) -> None:
    """Record that the month's events with seq ≤ done_to are in the next index. Runs inside the caller's transaction."""
    cursor.execute("UPDATE index_rebuild SET done_to = %s WHERE month = %s", (done_to, month))


def swap(cursor: Any, state: Rebuild, filled_to: int) -> str:
    """Make the next index the current one, and return the old one's name. Runs inside the caller's transaction.

    The transaction must hold the watermark. Earlier refusals belong to the old index, so they are deleted.
    """
    cursor.execute("UPDATE watermark SET checkpoint = seq")
    cursor.execute("SELECT index_name FROM index_month WHERE month = %s", (state.month,))
    ((old,),) = cursor.fetchall()
    cursor.execute(
        "UPDATE index_month SET index_name = %s, index_uuid = %s, filled_to = %s WHERE month = %s",
        (state.name, state.uuid, filled_to, state.month),
    )
    cursor.execute(
        "DELETE FROM index_failure USING index_rebuild AS rebuild WHERE index_failure.month = rebuild.month"
        " AND rebuild.month = %s AND failed_at < started_at",
        (state.month,),
    )
    cursor.execute("UPDATE index_rebuild SET old_name = %s WHERE month = %s", (old, state.month))
    return str(old)


def forget(connection: Connection, month: date) -> None:
    """Delete the record of a rebuild that has ended, or must start again."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM index_rebuild WHERE month = %s", (month,))


def forget_month(cursor: Any, month: date) -> list[str]:
    """Delete the rebuild of a dropped month; return the names of its indexes. Runs inside the caller's transaction."""
    cursor.execute("DELETE FROM index_rebuild WHERE month = %s RETURNING index_name, old_name", (month,))
    return [name for row in cursor for name in row if name]
