"""The audit records who requested what, as events of the log itself, in the component ``eventsvc.audit``.

Requests are counted in memory, and a background task stores them every few seconds through the writer of single
events. Equal requests become one event with their number, and no answer waits. When there are too many different
requests, the rest is dropped and counted.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import structlog

from eventsvc.access.rights import AUDIT_COMPONENT
from eventsvc.errors import CommitUnknown, EventsvcError
from eventsvc.event import NewEvent
from eventsvc.telemetry import AUDIT_DROPPED

if TYPE_CHECKING:
    from eventsvc.access.rights import Grant
    from eventsvc.log.write.writer import Writer

_logger = structlog.get_logger(__name__)

Mode = Literal["on", "values", "off"]

_PERIOD = 5.0  # seconds
MOST = 1000  # different records that may wait to be written, in one process
EMAIL, ENVIRONMENT = "audit@eventsvc.invalid", "eventsvc"
_LONGEST_VALUE = 1000  # characters


@dataclass(frozen=True, slots=True)
class _AuditRecord:
    """A kind of request: who did what. Equal records are counted together.

    Attributes:
        key: id and name of the API key; empty without a key.
        what: method and route, but never the URL, which holds values.
        details: further facts by name: what was erased, which key was made, and query values if the setting says so.
    """

    key: tuple[str, str]
    what: tuple[str, str]
    status: int
    details: tuple[tuple[str, str | int], ...] = ()


@dataclass(slots=True)
class _Tally:
    began: float = field(default_factory=time.time)
    requests: int = 0
    events: int = 0


class Audit:
    """Records the use of keys.

    Args:
        writer: the writer of single events.
        mode: the setting ``audit``.
    """

    def __init__(self, writer: Writer, mode: Mode, *, period: float = _PERIOD) -> None:
        self._writer, self._mode, self._period = writer, mode, period
        self._waiting: dict[_AuditRecord, _Tally] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the background task, in the running event loop."""
        if self._mode != "off":
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write the waiting records, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._write()

    def note(
        self, grant: Grant | None, what: tuple[str, str], status: int, values: dict[str, str], more: dict[str, Any]
    ) -> None:
        """Count a request.

        Args:
            grant: the grant of the request's key; None if the client was not let in.
            what: method and route.
            status: the status of the answer.
            values: the values that the client sent, which are recorded if the setting says so.
            more: further facts from the resource; ``events`` is the number of events.
        """
        if self._mode == "off":
            return
        if self._mode == "values":
            more = {**{name: value[:_LONGEST_VALUE] for name, value in sorted(values.items())}, **more}
        key = ("", "") if grant is None else (grant.id, grant.name)
        details = tuple((name, value) for name, value in more.items() if name != "events")
        self._count(_AuditRecord(key, what, status, details), 1, more.get("events", 0))

    def _count(self, record: _AuditRecord, requests: int, events: int) -> None:
        tally = self._waiting.get(record)
        if tally is None:
            if len(self._waiting) >= MOST:
                AUDIT_DROPPED.inc(requests)
                return
            tally = self._waiting[record] = _Tally()
        tally.requests += requests
        tally.events += events

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            await self._write()

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, {}
        written = await asyncio.gather(
            *(self._writer.append(_render(record, tally)) for record, tally in waiting.items()), return_exceptions=True
        )
        for (record, tally), outcome in zip(waiting.items(), written, strict=True):
            if isinstance(outcome, BaseException):
                self._keep(record, tally, outcome)

    def _keep(self, record: _AuditRecord, tally: _Tally, failure: BaseException) -> None:
        """Keep a record that was not written for the next time. A record that may have been written is dropped."""
        _logger.warning("the audit was not written", reason=str(failure))
        if isinstance(failure, CommitUnknown) or not isinstance(failure, EventsvcError):
            AUDIT_DROPPED.inc(tally.requests)
            return
        self._count(record, tally.requests, tally.events)
        with suppress(KeyError):
            self._waiting[record].began = min(tally.began, self._waiting[record].began)


def _render(record: _AuditRecord, tally: _Tally) -> NewEvent:
    method, route = record.what
    identity, name = record.key
    often = f", {tally.requests} times" if tally.requests > 1 else ""
    data = {
        "key": {"id": identity, "name": name} if identity else None,
        "method": method,
        "route": route,
        "status": record.status,
        "requests": tally.requests,
        "events": tally.events,
        **dict(record.details),
    }
    message = f"{name or 'nobody'}: {method} {route} {record.status}{often}"
    return NewEvent(EMAIL, ENVIRONMENT, AUDIT_COMPONENT, message, msgspec.json.encode(data), round(tally.began * 1e9))
