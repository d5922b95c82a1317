"""Erased events whose documents may still be in the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from eventsvc.log.connection import Connection, transaction
from eventsvc.log.progress import watermark


@dataclass(frozen=True, slots=True)
class Erased:
    """An event that is gone from the log."""

    seq: int
    month: date


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


def forget(connection: Connection, fence: int, erased: Sequence[Erased]) -> None:
    """Their documents are gone and no search sees them: nothing is left to remember.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        cursor.execute("DELETE FROM erased WHERE seq = ANY (%s)", ([one.seq for one in erased],))
