"""Drop a whole month: its partition of the log, and all records of its index."""

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

# Dropping locks the whole log for a moment. While it waits for the lock, every later session waits behind it.
_LOCK_TIMEOUT = "300ms"
_LOCK_ATTEMPTS = 100


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
                # The events of a month that was not made in time are in the default partition.
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
