"""Group commit: events that arrive together are stored together, and nobody is answered before the COMMIT."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import structlog

from eventsvc.errors import EventsvcError, LogError, WriteQueueFull
from eventsvc.event import Event
from eventsvc.log.group import GroupStore, Outcome, Replay, Single
from eventsvc.telemetry import EVENTS_STORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventsvc.event import NewEvent
    from eventsvc.log.idempotency import Key

_log = structlog.get_logger(__name__)

_GROUP = 1_000  # events in one transaction at most
_PATIENCE = 10.0  # seconds until a server that hangs is given up


@dataclass(frozen=True, slots=True)
class _Waiting:
    single: Single
    answer: asyncio.Future[Event | Replay]


class Writer:
    """The one that writes single events: a thread with a connection of its own.

    It takes what has queued up, writes it in one transaction, and answers all. A failed group fails its
    callers, never the writer.
    """

    def __init__(self, dsn: str, *, queue_size: int) -> None:
        self._store, self._queue_size = GroupStore(dsn), queue_size
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._accepted = 0
        self._closing = False
        self._writing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread; call it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._watchdog = self._loop.call_later(1.0, self._watch)

    async def close(self) -> None:
        """Write what was accepted, then stop."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._watchdog.cancel()

    async def append(self, new: NewEvent, key: Key | None = None) -> Event | Replay:
        """Store one event, or find what its key stands for; returns after the COMMIT.

        Raises:
            WriteQueueFull: too many wait already, or the service is stopping.
            LogUnavailable: PostgreSQL cannot be reached; the event is not stored.
            CommitUnknown: the connection broke during the COMMIT.
            LogError: PostgreSQL refused this event.
            KeyReused, KeyRunning, EventGone: the key stands for something else.
        """
        if self._accepted >= self._queue_size:
            raise WriteQueueFull(f"{self._accepted:,} events wait to be written")
        if self._closing:
            raise WriteQueueFull("the service is stopping")
        answer: asyncio.Future[Event | Replay] = self._loop.create_future()
        self._accepted += 1
        self._queue.put(_Waiting(Single(new, key), answer))
        return await answer

    def _watch(self) -> None:
        """Look once a second whether the server hangs."""
        since = self._writing_since
        if since is not None and time.monotonic() - since > _PATIENCE:
            _log.warning("PostgreSQL hangs: the writer's connection is broken off")
            self._store.interrupt()
        self._watchdog = self._loop.call_later(1.0, self._watch)

    def _run(self) -> None:
        while group := self._take():
            self._writing_since = time.monotonic()
            try:
                self._write(group)
            except Exception:  # noqa: BLE001  (the writer outlives whatever happens to a group)
                _log.exception("a group of events could not be written")
                self._answer(group, [LogError("the event could not be written")] * len(group))
            self._writing_since = None
        self._store.close()

    def _take(self) -> list[_Waiting]:
        """Wait for an event, then take all that are there; nothing once the writer is closed and drained."""
        first = self._queue.get()
        group = [] if first is None else [first]
        while group and len(group) < _GROUP:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)
                break
            group.append(waiting)
        return group

    def _write(self, group: list[_Waiting]) -> None:
        """Write a group; in halves when PostgreSQL refuses it, so that one event cannot fail its neighbours."""
        outcomes: Sequence[Outcome]
        try:
            outcomes = self._store.store([waiting.single for waiting in group])
        except EventsvcError as exc:
            outcomes = [type(exc)(str(exc)) for _ in group]  # raised once each
        except psycopg2.Error as exc:
            if len(group) > 1:
                middle = len(group) // 2
                self._write(group[:middle])
                self._write(group[middle:])
                return
            _log.exception("PostgreSQL refused an event", sqlstate=exc.pgcode)
            outcomes = [LogError(f"PostgreSQL refused the event (SQLSTATE {exc.pgcode})")]
        self._answer(group, outcomes)

    def _answer(self, group: list[_Waiting], outcomes: Sequence[Outcome]) -> None:
        """Hand out the outcomes: one hop into the event loop for the whole group."""
        self._loop.call_soon_threadsafe(self._hand_out, group, outcomes)

    def _hand_out(self, group: list[_Waiting], outcomes: Sequence[Outcome]) -> None:
        self._accepted -= len(group)
        EVENTS_STORED.inc(sum(isinstance(outcome, Event) for outcome in outcomes))
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.answer.done():
                continue  # its client went away
            if isinstance(outcome, EventsvcError):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
