"""Store one bulk in one transaction by COPY, and read the events that a bulk has stored."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

from eventsvc.errors import CommitUnknown, EventsvcError, KeyReused, KeyRunning, LogError, LogUnavailable
from eventsvc.event import Event
from eventsvc.log.citus import IS_DISTRIBUTED, IS_PREPARED, LOCK
from eventsvc.log.connection import fetch
from eventsvc.log.read.state import EVENT_COLUMNS
from eventsvc.log.write import idempotency
from eventsvc.log.write.commit_result import check_committed, commit_error
from eventsvc.log.write.copy_rows import COPY, CopySource, NotComplete, PackedRows
from eventsvc.log.write.idempotency import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventsvc.log.connection import Connection

_BLOCK = 256 * 1024  # bytes handed to PostgreSQL at a time
_AT_ONCE = 500  # events that are read or counted by one statement

# The table's lock is taken before the clock is read, so that no event is older than events below the horizon.
_BEGIN = f"""
BEGIN;
{LOCK};
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
"""  # noqa: S608  (a constant)
_READ = f"""
SELECT {EVENT_COLUMNS}
FROM event WHERE id = ANY(%s::uuid[]) AND created_at = to_timestamp(%s / 1000.0)
"""  # noqa: S608  (constants only)
_COUNT = "SELECT count(*) FROM event WHERE id = ANY(%s::uuid[]) AND created_at = to_timestamp(%s / 1000.0)"


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of a bulk.

    Attributes:
        seed: 16 bytes, from which the ids of the events follow.
        count: the number of events.
        created_at: the createdAt of all events, in ms since 1970.
        replayed: whether an earlier request with the same Idempotency-Key stored these events.
    """

    seed: bytes
    count: int
    created_at: int
    replayed: bool = False

    def id(self, number: int) -> str:
        """Give the id of an event by its number, from 0."""
        return idempotency.format_id(idempotency.derive_id(self.seed, number))

    def ids(self) -> Iterator[list[str]]:
        """Give the ids of all events, a few hundred at a time."""
        for first in range(0, self.count, _AT_ONCE):
            yield [self.id(number) for number in range(first, min(first + _AT_ONCE, self.count))]


@dataclass(frozen=True, slots=True)
class Bulk:
    """The rows of a bulk, the hash of its Idempotency-Key, and its fingerprint."""

    rows: PackedRows
    key: bytes | None
    fingerprint: bytes


def store_meanwhile(connection: Connection, rows: PackedRows, seconds: float) -> Stored | EventsvcError | None:
    """Store rows, some of which may still be added for so many seconds.

    Returns:
        None: nothing was stored, and the rows must be complete first.
    """
    try:
        result = store(connection, Bulk(rows, None, b""), seconds=seconds)
    except NotBegun:
        return None
    return None if isinstance(result, NotComplete) else result


def store(connection: Connection, bulk: Bulk, *, seconds: float = 0.0) -> Stored | EventsvcError:
    """Store a bulk, whose rows may still be added for so many seconds.

    An error is returned rather than raised, so that the pool keeps the connection.
    """
    with connection.cursor() as cursor:
        now = _begin(cursor)
        try:
            kept = _look_up(cursor, bulk.key)
            result = _replay(connection, bulk, kept) if kept else _copy(cursor, bulk, now, seconds)
        except (psycopg2.DataError, psycopg2.IntegrityError) as exc:
            cursor.execute("ROLLBACK")
            return LogError(f"PostgreSQL refused the events (SQLSTATE {exc.pgcode}); nothing was stored")
        except CommitUnknown:
            raise
        except EventsvcError as exc:
            cursor.execute("ROLLBACK")
            return exc
        if result.replayed:
            cursor.execute("ROLLBACK")
    return result


class NotBegun(LogUnavailable):
    """The connection was broken already when the transaction was to begin."""


def _begin(cursor: Any) -> int:
    try:
        cursor.execute(_BEGIN)
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise NotBegun("the connection to PostgreSQL broke; nothing was stored") from exc
    ((now,),) = cursor.fetchall()
    return int(now)


def _look_up(cursor: Any, key_hash: bytes | None) -> Kept | None:
    if key_hash is None:
        return None
    cursor.execute(idempotency.LOCK, ([idempotency.lock_of(key_hash)],))
    if not idempotency.read_locks(cursor):
        raise KeyRunning(idempotency.STILL_RUNNING)
    cursor.execute(idempotency.FIND, ([key_hash],))
    return idempotency.read_kept(cursor).get(key_hash)


def _replay(connection: Connection, bulk: Bulk, kept: Kept) -> Stored:
    if bulk.fingerprint != kept.fingerprint:
        raise KeyReused(idempotency.OTHER_BODY)
    stored = Stored(kept.seed, kept.count, kept.created_at, replayed=True)
    # The order matters: the events are counted after the prepared transactions were listed.
    prepared = fetch(connection, f"SELECT {IS_DISTRIBUTED}")[0][0] and fetch(connection, IS_PREPARED)[0][0]
    if prepared and count_stored(connection, stored) < stored.count:
        raise KeyRunning(idempotency.STILL_COMMITTING)
    return stored


def _copy(cursor: Any, bulk: Bulk, now: int, seconds: float) -> Stored:
    seed = idempotency.new_seed()
    ids = (idempotency.derive_id(seed, number) for number in itertools.count())
    rows = CopySource(bulk.rows.stamp(now, ids, seconds))
    try:
        cursor.copy_expert(COPY, rows, _BLOCK)
    except SystemError as exc:
        # The driver stumbles over a server that first refuses the rows and then does not end the statement (job.py).
        raise psycopg2.OperationalError("the connection to PostgreSQL broke during the COPY") from exc
    if rows.failure is not None:
        raise rows.failure
    count = cursor.rowcount
    if bulk.key is not None:
        kept = Kept(bulk.fingerprint, seed, count, now)
        cursor.execute(idempotency.KEEP, (idempotency.write_kept({bulk.key: kept}),))
    _commit(cursor)
    return Stored(seed, count, now)


def _commit(cursor: Any) -> None:
    """Commit, and never take an unclear end for a success."""
    try:
        cursor.connection.notices.clear()
        cursor.execute("COMMIT")
    except psycopg2.Error as exc:
        raise commit_error(exc, broken=bool(cursor.connection.closed)) from exc
    check_committed(cursor.statusmessage, cursor.connection.notices)


def read_stored(connection: Connection, stored: Stored, ids: list[str]) -> list[Event]:
    """Read some of the stored events, in the order of their ids, without events that were erased since."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, (ids, stored.created_at))
        found = {event.id: event for event in (Event(*row) for row in cursor)}
    return [found[name] for name in ids if name in found]


def count_stored(connection: Connection, stored: Stored) -> int:
    """Count the stored events that were not erased since."""
    present = 0
    with connection.cursor() as cursor:
        for ids in stored.ids():
            cursor.execute(_COUNT, (ids, stored.created_at))
            ((found,),) = cursor.fetchall()
            present += found
    return present
