"""Read and store bulk requests, a few at a time. Each bulk is stored as a whole or not at all (bulk.py)."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, Protocol

from eventsvc.errors import EventGone, EventsvcError, WriteQueueFull
from eventsvc.log.connection import Pool
from eventsvc.log.write.bulk import Bulk, NotBegun, Stored, count_stored, read_stored, store, store_meanwhile
from eventsvc.log.write.copy_rows import PackedRows
from eventsvc.telemetry import EVENTS_STORED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from eventsvc.event import Event, NewEvent

_STATEMENT_TIMEOUT = 120.0  # seconds

# PERF: a bulk whose first rows are read so quickly is copied while the rest is read, as PostgreSQL works on a core of
# its own. The horizon waits for such a transaction, so it never waits longer for the reading than _MEANWHILE.
_QUICK_BLOCKS, _QUICK = 2, 0.2  # of 256 KiB; seconds
_MEANWHILE = 3.0  # seconds


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


class BulkWriter:
    """Writes a few bulks at a time, so that memory stays bounded.

    A body has arrived as a whole before its events are read, and the events are read and checked before the transaction
    begins. The horizon waits for every transaction that writes. So a transaction must never wait for a client, and must
    not wait long for the reading. Only if the first events are read quickly, they are copied while the rest is read. If
    the rest is not read within 3 seconds, or an event is bad, this transaction is rolled back. A bulk that was only too
    slow is then stored by another transaction.
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
            CommitUnknown: PostgreSQL did not confirm the COMMIT; the events may be stored.
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
                    result = await self._pool.run(lambda connection: store_meanwhile(connection, rows, _MEANWHILE))
                await reading
                result = result or await self._store_whole(Bulk(rows, key, source.fingerprint()))
            finally:
                reading.cancel()
        if isinstance(result, EventsvcError):
            raise result
        if not result.replayed:
            EVENTS_STORED.inc(result.count)
        return result

    async def _store_whole(self, bulk: Bulk) -> Stored | EventsvcError:
        self._refuse_when_closing()
        try:
            return await self._pool.run(lambda connection: store(connection, bulk))
        except NotBegun:  # the connection broke while it was idle; nothing was sent yet
            return await self._pool.run(lambda connection: store(connection, bulk))

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
        for ids in stored.ids():
            yield await self._pool.run(lambda connection, ids=ids: read_stored(connection, stored, ids))  # type: ignore[misc]

    async def check_whole(self, stored: Stored) -> None:
        """Check that none of the stored events was erased since.

        Raises:
            EventGone: some events were erased.
        """
        present = await self._pool.run(lambda connection: count_stored(connection, stored))
        if present < stored.count:
            raise EventGone(f"{stored.count - present:,} of these {stored.count:,} events have been erased since")

    async def close(self) -> None:
        """Wait for the transactions under way, and close the connections."""
        self._closing = True
        for executor in (self._small, self._large):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._pool.close)


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
