"""Drop a whole month: its partition of the log, and all records of its index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from eventsvc.log import months
from eventsvc.log.connection import Connection, patiently, transaction
from eventsvc.log.progress import erased, index_months, rebuilds, refusals, watermark

# Dropping locks the whole log for a moment.
_LOCK_TIMEOUT, _ATTEMPTS, _PAUSE = "300ms", 100, 0.2  # seconds of pause


def drop(connection: Connection, month: date, *, is_held: Callable[[Any], bool]) -> list[str] | None:
    """Drop the month's partition and all records of its index in one transaction, so that no search sees only half.

    Args:
        connection: a connection to the log, outside of any transaction.
        month: the month's first day.
        is_held: tells, inside the transaction, whether events of the month must be kept.

    Returns:
        The names of the month's indexes, which the caller must delete; None if a hold keeps the month.

    Raises:
        LogError: long transactions keep the log locked.
    """

    def attempt() -> list[str] | None:
        with transaction(connection, lock_timeout=_LOCK_TIMEOUT) as cursor:
            cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
            if is_held(cursor):
                return None
            watermark.draw_fence_within(cursor)
            names = _forget_month(cursor, month)
            months.drop_partition(connection, month)
            # The events of a month that was not made in time are in the default partition.
            cursor.execute("DELETE FROM event_default WHERE created_at >= %s AND created_at < %s", months.bounds(month))
            return names

    failure = f"month {month:%Y-%m} could not be dropped: long transactions keep the log locked; try again"
    return patiently(attempt, failure, attempts=_ATTEMPTS, pause=_PAUSE)


def _forget_month(cursor: Any, month: date) -> list[str]:
    erased.draw_epoch(cursor)
    refusals.forget_month(cursor, month)
    erased.forget_month(cursor, month)
    return index_months.forget_month(cursor, month) + rebuilds.forget_month(cursor, month)
