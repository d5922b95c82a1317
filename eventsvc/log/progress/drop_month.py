"""Drop a whole month: its partition of the log, and everything that the log knows of its index."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from psycopg2 import errors as pg_errors

from eventsvc.errors import LogError
from eventsvc.log import months
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.progress import erased, index_months, rebuilds, refusals, watermark

# Dropping needs the log for itself for a moment; whoever waits for that makes everybody behind wait too.
_LOCK_TIMEOUT = "300ms"
_LOCK_ATTEMPTS = 100


def drop(connection: Connection, month: date, *, is_held: Callable[[Any], bool]) -> list[str] | None:
    """Drop the month from the log, and all that the log knows of its index, in one transaction.

    So no search ever sees the one without the other.

    Args:
        connection: of the log, outside of any transaction.
        month: its first day.
        is_held: tells, inside the transaction, whether events of the month must be kept.

    Returns:
        The names of the indexes that held the month, to be deleted by the caller; None when the month is held.

    Raises:
        LogError: long transactions keep the log locked.
    """
    for _ in range(_LOCK_ATTEMPTS):
        try:
            with transaction(connection) as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
                if is_held(cursor):
                    return None
                watermark.draw_fence_within(cursor)
                names = _forget_month(cursor, month)
                months.drop_month(connection, month)
                # A month that was not made in time lies there.
                cursor.execute(
                    "DELETE FROM event_default WHERE created_at >= %s AND created_at < %s", months.bounds(month)
                )
        except pg_errors.LockNotAvailable:
            time.sleep(0.2)
            continue
        return names
    raise LogError(f"month {month:%Y-%m} could not be dropped: long transactions keep the log locked; try again")


def _forget_month(cursor: Any, month: date) -> list[str]:
    erased.draw_epoch(cursor)
    refusals.forget_month(cursor, month)
    erased.forget_month(cursor, month)
    return index_months.forget_month(cursor, month) + rebuilds.forget_month(cursor, month)
