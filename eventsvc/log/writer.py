"""Group commit: events that arrive together are stored together, and nobody is answered before the COMMIT."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg2
import structlog

from eventsvc.errors import CommitUnknown, LogError, LogUnavailable, WriteQueueFull
from eventsvc.event import Event, NewEvent
from eventsvc.log.connection import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = structlog.get_logger(__name__)

_NAME = "eventsvc writer"
_BATCH = 1_000  # events in one transaction at most
_STATEMENT_TIMEOUT = 10.0  # seconds
_RETRY_CONNECT = 0.5  # seconds during which a database that could not be reached is not asked again

# PERF: one JSON parameter costs a third of the quoting of six values per event.
_INSERT = """
BEGIN;
INSERT INTO event (id, email, environment, component, message, data)
SELECT id, email, environment, component, message, coalesce(data, 'null')
FROM json_to_recordset(%s) AS sent (id uuid, email text, environment text, component text, message text, data jsonb)
RETURNING id::text, seq, (extract(epoch FROM created_at) * 1000)::bigint, data::text
"""


@dataclass(frozen=True, slots=True)
class _Waiting:
    new: NewEvent
    answer: asyncio.Future[Event]


class Writer:
    """The one that writes single events: a thread with a connection of its own.

    It takes what has queued up, writes it in one transaction, and answers all. A failed batch fails its
    callers, never the writer.
    """

    def __init__(self, dsn: str, *, queue_size: int) -> None:
        self._dsn, self._queue_size = dsn, queue_size
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._accepted = 0
        self._closing = False
        self._connection: Connection | None = None
        self._down_until = 0.0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread; call it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Write what was accepted, then stop."""
        self._closing = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def append(self, new: NewEvent) -> Event:
        """Store one event; returns after the COMMIT.

        Raises:
            WriteQueueFull: too many wait already, or the service is stopping.
            LogUnavailable: PostgreSQL cannot be reached; the event is not stored.
            CommitUnknown: the connection broke during the COMMIT.
            LogError: PostgreSQL refused this event.
        """
        if self._accepted >= self._queue_size:
            raise WriteQueueFull(f"{self._accepted:,} events wait to be written")
        if self._closing:
            raise WriteQueueFull("the service is stopping")
        waiting = _Waiting(new, self._loop.create_future())
        self._accepted += 1
        self._queue.put(waiting)
        return await waiting.answer

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._write(batch)
            except Exception as exc:  # noqa: BLE001  (the writer outlives whatever happens to a batch)
                _log.exception("a batch of events could not be written")
                self._fail(batch, LogError(f"the event could not be written: {type(exc).__name__}"))
        if self._connection is not None:
            self._connection.close()

    def _take(self) -> list[_Waiting]:
        """Wait for an event, then take all that are there; nothing once the writer is closed and drained."""
        first = self._queue.get()
        batch = [] if first is None else [first]
        while batch and len(batch) < _BATCH:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)
                break
            batch.append(waiting)
        return batch

    def _write(self, batch: list[_Waiting]) -> None:
        """Write a batch; in halves when PostgreSQL refuses it, so that one event cannot fail its neighbours."""
        try:
            events = self._store_with_retry([waiting.new for waiting in batch])
        except LogError as exc:
            self._fail(batch, exc)
        except psycopg2.Error as exc:
            if len(batch) == 1:
                _log.error("PostgreSQL refused an event", sqlstate=exc.pgcode)
                self._fail(batch, LogError(f"PostgreSQL refused the event (SQLSTATE {exc.pgcode})"))
                return
            middle = len(batch) // 2
            self._write(batch[:middle])
            self._write(batch[middle:])
        else:
            self._loop.call_soon_threadsafe(self._answer, batch, events)

    def _store_with_retry(self, news: list[NewEvent]) -> list[Event]:
        """Store; once more on a new connection if the old one broke before the COMMIT was sent."""
        try:
            return self._store(news)
        except LogUnavailable:
            return self._store(news)

    def _store(self, news: list[NewEvent]) -> list[Event]:
        connection = self._connected()
        with connection.cursor() as cursor:
            try:
                events = _insert(cursor, news)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
                self._drop_connection()
                raise LogUnavailable("the connection to PostgreSQL broke; nothing was stored") from exc
            except psycopg2.Error:
                cursor.execute("ROLLBACK")
                raise
            self._commit(cursor)
        return events

    def _commit(self, cursor: Any) -> None:
        try:
            cursor.execute("COMMIT")
        except psycopg2.Error as exc:
            self._drop_connection()
            raise CommitUnknown("the connection to PostgreSQL broke during the COMMIT") from exc

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            if time.monotonic() < self._down_until:
                raise LogUnavailable("PostgreSQL cannot be reached")
            try:
                self._connection = connect(
                    self._dsn, statement_timeout=_STATEMENT_TIMEOUT, application_name="eventsvc writer"
                )
            except LogUnavailable:
                self._down_until = time.monotonic() + _RETRY_CONNECT
                raise
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fail(self, batch: list[_Waiting], exc: LogError) -> None:
        self._loop.call_soon_threadsafe(self._answer, batch, [exc] * len(batch))

    def _answer(self, batch: list[_Waiting], results: Sequence[Event | LogError]) -> None:
        """Hand out the results; in the event loop, one hop for the whole batch."""
        self._accepted -= len(batch)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.answer.done():
                continue  # the client went away
            if isinstance(result, LogError):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)


def _insert(cursor: Any, news: list[NewEvent]) -> list[Event]:
    ids = [str(uuid.uuid4()) for _ in news]
    rows = [
        {
            "id": new_id,
            "email": new.email,
            "environment": new.environment,
            "component": new.component,
            "message": new.message,
            "data": msgspec.Raw(new.data),
        }
        for new_id, new in zip(ids, news, strict=True)
    ]
    cursor.execute(_INSERT, (msgspec.json.encode(rows).decode(),))
    stored = {row[0]: row[1:] for row in cursor}
    return [_event(new_id, new, *stored[new_id]) for new_id, new in zip(ids, news, strict=True)]


def _event(new_id: str, new: NewEvent, seq: int, created_at: int, data: str) -> Event:
    return Event(seq, new_id, created_at, new.email, new.environment, new.component, new.message, data)
