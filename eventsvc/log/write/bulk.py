"""Store many events by COPY in one transaction: all or none."""

from __future__ import annotations

import asyncio
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2

from eventsvc.errors import (
    CommitUnknown,
    EventGone,
    EventsvcError,
    KeyReused,
    KeyRunning,
    LogError,
    LogUnavailable,
    WriteQueueFull,
)
from eventsvc.event import Event
from eventsvc.log.connection import Pool
from eventsvc.log.read.state import EVENT_COLUMNS
from eventsvc.log.write import idempotency
from eventsvc.log.write.commit import check_committed, commit_error
from eventsvc.log.write.copy_rows import COPY, CopySource, NotComplete, PackedRows
from eventsvc.log.write.idempotency import IdempotencyKey, Kept
from eventsvc.telemetry import EVENTS_STORED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from eventsvc.event import NewEvent
    from eventsvc.log.connection import Connection

_STATEMENT_TIMEOUT = 120.0  # seconds
_BLOCK = 256 * 1024  # bytes handed to PostgreSQL at a time
_READ_AT_ONCE = 500  # events

# PERF: a bulk whose first rows are read so quickly is copied while the rest is read, as PostgreSQL works on a core of
# its own. The horizon waits for such a transaction, so it never waits longer for the reading than _MEANWHILE.
_QUICK_BLOCKS, _QUICK = 2, 0.2  # of 256 KiB; seconds
_MEANWHILE = 3.0  # seconds

# The table's lock is taken before the clock is read, so that no event is older than events below the horizon.
_BEGIN = """
BEGIN;
LOCK TABLE event IN ROW EXCLUSIVE MODE;
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
"""
_READ = f"""
SELECT {EVENT_COLUMNS}
FROM event WHERE id = ANY(%s::uuid[]) AND created_at = to_timestamp(%s / 1000.0)
"""  # noqa: S608  (constants only)
_COUNT = "SELECT count(*) FROM event WHERE id = ANY(%s::uuid[]) AND created_at = to_timestamp(%s / 1000.0)"


class EventSource(Protocol):
    """The source of a bulk's events, which is iterated once, in a thread.

    After the iteration ``finish`` is called, which raises if the events must not be stored. ``fingerprint`` is then
    complete.
    """

    def __iter__(self) -> Iterator[NewEvent]: ...

    def finish(self) -> None:
        """Raise if these events must not be stored."""

    def fingerprint(self) -> bytes:
        """Hash everything that decides which events are stored."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of a bulk. The ids of its events follow from the seed."""

    seed: bytes
    count: int
    created_at: int
    replayed: bool = False

    def id(self, number: int) -> str:
        """Give the id of an event by its number, from 0."""
        return idempotency.format_id(idempotency.derive_id(self.seed, number))


class BulkWriter:
    """Writes a few bulks at a time, so that memory stays bounded.

    A body has arrived as a whole before its events are read, and the events are read and checked before the transaction
    begins. The horizon waits for every transaction that writes, so a transaction must never wait for a client, nor long
    for the reading. Only events that are read quickly are copied meanwhile: if they are not read within 3 seconds, or
    if one of them is bad, the transaction is rolled back.
    """

    def __init__(self, dsn: str, *, concurrency: int, waiting: int = 64) -> None:
        self._pool = Pool(dsn, size=concurrency, statement_timeout=_STATEMENT_TIMEOUT)
        # Small bulks have threads of their own: three events do not wait for the reading of 64 MiB.
        self._small, self._large = (ThreadPoolExecutor(concurrency, f"bulk-{name}") for name in ("small", "large"))
        self._places = concurrency + waiting
        self._closing = False

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place, from the first byte of a request to its end.

        Raises:
            WriteQueueFull: all places are taken, or the service is stopping.
        """
        self._refuse_when_closing()
        if self._places == 0:
            raise WriteQueueFull("too many bulk requests are under way")
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def store(self, source: EventSource, key: bytes | None = None, *, small: bool = False) -> Stored:
        """Store all events, or none; returns after the COMMIT.

        Args:
            source: the events.
            key: hash of the Idempotency-Key.
            small: whether the events are so few that they are parsed quickly.

        Raises:
            CommitUnknown: the connection broke during the COMMIT.
            LogUnavailable: PostgreSQL cannot be reached; nothing was stored.
            LogTimeout: PostgreSQL took too long; nothing was stored.
            KeyReused: the key came before with other events.
            KeyRunning: another request with this key is running.
            EventsvcError: the source cannot be read, or its events must not be stored.
        """
        begun = asyncio.Event()
        with closing(PackedRows(_when_quick(begun))) as rows:
            reading = asyncio.ensure_future(self._read_source(lambda: _pack(source, rows), small=small))
            try:
                result = None
                if key is None and not small and await _comes_first(begun, reading):
                    result = await self._pool.run(lambda connection: _store_meanwhile(connection, rows))
                await reading
                result = result or await self._store_whole(_Bulk(rows, key, source.fingerprint()))
            finally:
                reading.cancel()
        if isinstance(result, EventsvcError):
            raise result
        if not result.replayed:
            EVENTS_STORED.inc(result.count)
        return result

    async def _store_whole(self, bulk: _Bulk) -> Stored | EventsvcError:
        self._refuse_when_closing()
        try:
            return await self._pool.run(lambda connection: _store(connection, bulk))
        except _NotBegunError:  # the connection broke while it was idle; nothing was sent yet
            return await self._pool.run(lambda connection: _store(connection, bulk))

    async def check(self, source: EventSource, *, small: bool = False) -> int:
        """Read all events and store none; return how many there are."""
        return await self._read_source(lambda: _drain(source), small=small)

    async def _read_source(self, work: Callable[[], int], *, small: bool) -> int:
        self._refuse_when_closing()
        executor = self._small if small else self._large
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise WriteQueueFull("the service is stopping")

    async def read(self, stored: Stored) -> AsyncIterator[list[Event]]:
        """Read the stored events, in the order in which they were sent, a few hundred at a time."""
        for first in range(0, stored.count, _READ_AT_ONCE):
            numbers = range(first, min(first + _READ_AT_ONCE, stored.count))
            ids = [stored.id(number) for number in numbers]
            yield await self._pool.run(lambda connection, ids=ids: _read(connection, ids, stored))  # type: ignore[misc]

    async def check_whole(self, stored: Stored) -> None:
        """Check that none of the stored events was erased since.

        Raises:
            EventGone: some events were erased.
        """
        present = await self._pool.run(lambda connection: _count(connection, stored))
        if present < stored.count:
            raise EventGone(f"{stored.count - present:,} of these {stored.count:,} events have been erased since")

    async def close(self) -> None:
        """Wait for the transactions under way, and close the connections."""
        self._closing = True
        for executor in (self._small, self._large):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._pool.close)


@dataclass(frozen=True, slots=True)
class _Bulk:
    rows: PackedRows
    key: bytes | None
    fingerprint: bytes


def _when_quick(begun: asyncio.Event) -> Callable[[int], None]:
    """Make a function for PackedRows which sets the event if the first blocks come quickly."""
    loop, deadline = asyncio.get_running_loop(), time.monotonic() + _QUICK

    def tell(blocks: int) -> None:
        if blocks == _QUICK_BLOCKS and time.monotonic() < deadline:
            loop.call_soon_threadsafe(begun.set)

    return tell


async def _comes_first(event: asyncio.Event, other: asyncio.Future[Any]) -> bool:
    """Wait until the event is set or the other is done; tell whether the other is still under way."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return not other.done()


def _store_meanwhile(connection: Connection, rows: PackedRows) -> Stored | EventsvcError | None:
    """Store rows while they are still read. None: nothing was stored, and the rows must be complete first."""
    try:
        result = _store(connection, _Bulk(rows, None, b""), seconds=_MEANWHILE)
    except _NotBegunError:
        return None
    return None if isinstance(result, NotComplete) else result


def _store(connection: Connection, bulk: _Bulk, *, seconds: float = 0.0) -> Stored | EventsvcError:
    """Store a bulk, whose rows may still be added for so many seconds.

    An error is returned rather than raised, so that the pool keeps the connection.
    """
    with connection.cursor() as cursor:
        now = _begin(cursor)
        try:
            kept = _look_up(cursor, bulk.key)
            result = _replay(bulk, kept) if kept else _copy(cursor, bulk, now, seconds)
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


class _NotBegunError(LogUnavailable):
    """The connection was broken already when the transaction was to begin."""


def _begin(cursor: Any) -> int:
    try:
        cursor.execute(_BEGIN)
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise _NotBegunError("the connection to PostgreSQL broke; nothing was stored") from exc
    ((now,),) = cursor.fetchall()
    return int(now)


def _look_up(cursor: Any, key_hash: bytes | None) -> Kept | None:
    if key_hash is None:
        return None
    cursor.execute(idempotency.LOCK, ([IdempotencyKey(key_hash, b"").lock],))
    if not idempotency.read_locks(cursor):
        raise KeyRunning("a request with the same Idempotency-Key is still running")
    cursor.execute(idempotency.FIND, ([key_hash],))
    return idempotency.read_kept(cursor).get(key_hash)


def _replay(bulk: _Bulk, kept: Kept) -> Stored:
    if bulk.fingerprint != kept.fingerprint:
        raise KeyReused("this Idempotency-Key came before with another body")
    return Stored(kept.seed, kept.count, kept.created_at, replayed=True)


def _copy(cursor: Any, bulk: _Bulk, now: int, seconds: float) -> Stored:
    seed = idempotency.new_seed()
    ids = (idempotency.derive_id(seed, number) for number in itertools.count())
    rows = CopySource(bulk.rows.stamp(now, ids, seconds))
    cursor.copy_expert(COPY, rows, _BLOCK)
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


def _pack(source: EventSource, rows: PackedRows) -> int:
    count, complete = 0, False
    try:
        for count, new in enumerate(source, 1):  # noqa: B007  (what it is at the end counts)
            rows.add(new)
        source.finish()
        complete = True
    finally:
        rows.end(complete=complete)
    return count


def _drain(source: EventSource) -> int:
    count = sum(1 for _ in source)
    source.finish()
    return count


def _read(connection: Connection, ids: list[str], stored: Stored) -> list[Event]:
    with connection.cursor() as cursor:
        cursor.execute(_READ, (ids, stored.created_at))
        found = {event.id: event for event in (Event(*row) for row in cursor)}
    return [found[name] for name in ids if name in found]


def _count(connection: Connection, stored: Stored) -> int:
    present = 0
    with connection.cursor() as cursor:
        for first in range(0, stored.count, _READ_AT_ONCE):
            numbers = range(first, min(first + _READ_AT_ONCE, stored.count))
            cursor.execute(_COUNT, ([stored.id(number) for number in numbers], stored.created_at))
            ((found,),) = cursor.fetchall()
            present += found
    return present
