"""Group commit: events that arrive together are stored in one transaction, and are answered after its COMMIT."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import structlog

from eventsvc.errors import EventsvcError, LogError, WorkerUnavailable, WriteQueueFull
from eventsvc.event import Event
from eventsvc.log.write.group import GroupStore, Outcome, Replay, Single
from eventsvc.telemetry import EVENTS_STORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventsvc.event import NewEvent
    from eventsvc.log.write.idempotency import IdempotencyKey

_log = structlog.get_logger(__name__)

_GROUP = 500  # events in one transaction at most


@dataclass(frozen=True, slots=True)
class _Waiting:
    single: Single
    answer: asyncio.Future[Event | Replay]


class Writer:
    """Writes single events, in a task with its own connection.

    The task takes all queued events, writes them in one transaction, and answers all callers. A failed group fails its
    callers, never the writer.
    """

    def __init__(self, dsn: str, *, queue_size: int) -> None:
        self._store, self._queue_size = GroupStore(dsn), queue_size
        self._queue: deque[_Waiting] = deque()
        self._accepted = 0
        self._closing = False
        self._idle: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Start writing; call it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Write all accepted events, then stop."""
        self._closing = True
        self._wake()
        await self._task

    async def append(self, new: NewEvent, key: IdempotencyKey | None = None) -> Event | Replay:
        """Store one event, or find the event that its key stands for; returns after the COMMIT.

        Raises:
            WriteQueueFull: too many wait already, or the service is stopping.
            LogUnavailable: PostgreSQL cannot be reached; the event is not stored.
            CommitUnknown: the connection broke during the COMMIT.
            LogError: PostgreSQL refused this event.
            KeyReused: the key came before with another event.
            KeyRunning: another request with this key is running.
            EventGone: the key's event was stored, and has been erased since.
        """
        if self._accepted >= self._queue_size:
            raise WriteQueueFull(f"{self._accepted:,} events wait to be written")
        if self._closing:
            raise WriteQueueFull("the service is stopping")
        answer: asyncio.Future[Event | Replay] = self._loop.create_future()
        self._accepted += 1
        self._queue.append(_Waiting(Single(new, key), answer))
        self._wake()
        return await answer

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._idle = self._loop.create_future()
                await self._idle
                continue
            # PERF: requests that have arrived meanwhile need two rounds of the loop to be read; they may come along.
            for _ in range(2):
                await asyncio.sleep(0)
            group = [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
            try:
                await self._write(group)
            except Exception:  # noqa: BLE001  (the writer outlives whatever happens to a group)
                _log.exception("a group of events could not be written")
                self._hand_out(group, [LogError("the event could not be written") for _ in group])
        self._store.close()

    async def _write(self, group: list[_Waiting]) -> None:
        """Write a group. If it fails, write it in parts, so that one event cannot fail its neighbours.

        The parts are the events of each worker if a worker does not answer, and halves if PostgreSQL refuses the group.
        """
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._store.store([waiting.single for waiting in group])
        except WorkerUnavailable as exc:
            if len(parts := await self._split(group)) > 1:
                for part in parts:
                    await self._write(part)
                return
            outcomes = [WorkerUnavailable(str(exc)) for _ in group]
        except EventsvcError as exc:
            outcomes = [type(exc)(str(exc)) for _ in group]  # raised once each
        except psycopg2.Error as exc:
            if len(group) > 1:
                middle = len(group) // 2
                await self._write(group[:middle])
                await self._write(group[middle:])
                return
            _log.exception("PostgreSQL refused an event", sqlstate=exc.pgcode)
            outcomes = [LogError(f"PostgreSQL refused the event (SQLSTATE {exc.pgcode})")]
        self._hand_out(group, outcomes)

    async def _split(self, group: list[_Waiting]) -> list[list[_Waiting]]:
        waiting = {id(one.single): one for one in group}
        parts = await self._store.split([one.single for one in group])
        return [[waiting[id(single)] for single in part] for part in parts]

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
