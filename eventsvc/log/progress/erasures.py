"""The tables ``erasure`` and ``hold``: a record of each erasure, and the holds, which keep events from being erased."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventsvc.log.connection import Connection

_COLUMNS = "id::text, asked_at, asked_by, reason, digest, query, upto, done_to, counted, erased, finished_at"
# The number of an advisory lock, the same in all processes: only one process at a time continues an erasure.
_WORK_LOCK = 0x6572617365


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure.

    Attributes:
        digest: the hash of the canonical query, which tells whether two erasures have the same query.
        query: the canonical query; None once the erasure is done.
        upto: only events with seq ≤ this are erased; None includes events that arrive while the erasure runs.
        done_to: the erasure continues after this seq.
        counted: how many events matched when the erasure was requested.
        erased: how many events are erased so far.
    """

    id: str
    asked_at: datetime
    asked_by: str
    reason: str
    digest: str
    query: str | None
    upto: int | None
    done_to: int
    counted: int
    erased: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold: events that must be kept.

    Attributes:
        query: the canonical query of these events.
    """

    name: str
    query: str
    reason: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class NewErasure:
    """The facts that are recorded when an erasure begins; see Erasure."""

    id: str
    asked_by: str
    reason: str
    digest: str
    query: str
    upto: int | None
    counted: int


def insert(cursor: Any, new: NewErasure) -> None:
    """Record a new erasure. Runs inside the caller's transaction."""
    cursor.execute(
        "INSERT INTO erasure (id, asked_by, reason, digest, query, upto, counted) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (new.id, new.asked_by, new.reason, new.digest, new.query, new.upto, new.counted),
    )


def advance(cursor: Any, erasure_id: str, *, erased: int, done_to: int) -> None:
    """Record further erased events and the seq reached. Runs inside the caller's transaction."""
    cursor.execute(
        "UPDATE erasure SET erased = erased + %s, done_to = %s WHERE id = %s::uuid", (erased, done_to, erasure_id)
    )


def finish(cursor: Any, erasure_id: str) -> None:
    """Record that the erasure is done, and delete its query. Runs inside the caller's transaction."""
    cursor.execute(
        "UPDATE erasure SET query = NULL, finished_at = clock_timestamp() WHERE id = %s::uuid", (erasure_id,)
    )


def read(connection: Connection, erasure_id: str) -> Erasure | None:
    """Read one erasure; None if none has this id."""
    found = _select(connection, "WHERE id = %s::uuid", (erasure_id,))
    return found[0] if found else None


def list_newest(connection: Connection, limit: int) -> list[Erasure]:
    """List the erasures, newest first."""
    return _select(connection, "ORDER BY asked_at DESC LIMIT %s", (limit,))


def list_running(connection: Connection) -> list[Erasure]:
    """List the erasures that are not done, oldest first."""
    return _select(connection, "WHERE finished_at IS NULL ORDER BY asked_at", ())


def _select(connection: Connection, end: str, values: tuple[Any, ...]) -> list[Erasure]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM erasure {end}", values)  # noqa: S608  (both are constants)
        return [Erasure(*row) for row in cursor]


@contextmanager
def working(connection: Connection) -> Iterator[bool]:
    """Take the lock of the process that continues erasures; yields False if another process holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (_WORK_LOCK,))
        ((taken,),) = cursor.fetchall()
        try:
            yield bool(taken)
        finally:
            if taken and not connection.closed:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (_WORK_LOCK,))


def list_holds(connection: Connection) -> list[Hold]:
    """List the holds by name."""
    with connection.cursor() as cursor:
        return read_holds(cursor)


def read_holds(cursor: Any, *, keep: bool = False) -> list[Hold]:
    """Read the holds.

    Args:
        cursor: the cursor of a transaction, if ``keep``.
        keep: let nobody make a hold before the caller's transaction ends. So from the moment at which a hold is made,
            no matching event is erased.
    """
    if keep:
        cursor.execute("LOCK TABLE hold IN SHARE MODE")
    cursor.execute("SELECT name, query, reason, made_at FROM hold ORDER BY name")
    return [Hold(*row) for row in cursor]


def put_hold(connection: Connection, name: str, query: str, reason: str) -> None:
    """Make a hold, or change the hold of this name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO hold (name, query, reason) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET query = excluded.query, reason = excluded.reason",
            (name, query, reason),
        )


def release_hold(connection: Connection, name: str) -> bool:
    """Remove a hold; tell whether there was one."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM hold WHERE name = %s", (name,))
        return bool(cursor.rowcount)
