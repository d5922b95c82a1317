"""Send a program's log records to eventsvc from the background.

    handler = EventHandler("http://127.0.0.1:8000", email="ops@example.com", environment="production")
    logging.getLogger().addHandler(handler)

The handler never raises into the program and never blocks it. Records wait in bounded memory, and a thread sends them
in batches; records that do not fit are dropped and counted. A batch without an answer is sent again with the same
Idempotency-Key, so no event is stored twice.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from typing import Any

import msgspec

from eventsvc import limits
from eventsvc.client.delivery import Delivery, Endpoint
from eventsvc.text.sanitize import cut_middle, sanitize_message, sanitize_text, sanitize_value

# The attributes of every LogRecord; other attributes were given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST_TRACEBACK = 30_000  # characters


class EventHandler(logging.Handler):
    """A handler for the standard library's logging.

    Args:
        url: the URL of the service, without /event.
        email: the field email of every event: the person or team in charge.
        environment: the field environment of every event, for example "production".
        component: the field component of every event; "" for the logger's name.
        level: the lowest level that is sent.
        api_key: the API key.
        capacity: how many records may wait; more are dropped.
        capacity_bytes: how many bytes of JSON may wait.
        batch: how many records are sent in one request.
        interval: how many seconds a record waits for others, at most.
        timeout: seconds for one request.
        patience: seconds that ``close``, and so the program's end, waits for records to be sent.

    Raises:
        ValueError: the URL or the key cannot be used, or a number makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        email: str,
        environment: str,
        component: str = "",
        level: int = logging.NOTSET,
        api_key: str = "",
        capacity: int = 10_000,
        capacity_bytes: int = 16 * 1024 * 1024,
        batch: int = 500,
        interval: float = 1.0,
        timeout: float = 10.0,
        patience: float = 5.0,
    ) -> None:
        super().__init__(level)
        self._email, self._environment, self._component = email, environment, component
        for name, number in (("capacity", capacity), ("capacity_bytes", capacity_bytes), ("batch", batch)):
            if number < 1:
                raise ValueError(f"{name} is {number}: it must be at least 1")
        self._endpoint = Endpoint(url.rstrip("/"), api_key, timeout)
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._batch, self._interval, self._patience = batch, interval, patience
        self._begin()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called by logging, with the handler's lock held."""
        if os.getpid() != self._process:
            self._begin()  # after a fork: the parent sends the waiting records, and this process has no thread yet
        if record.thread == self._delivery.thread_id:
            return  # a record of the HTTP library about a request of this handler
        try:
            self._delivery.offer(msgspec.json.encode(self._make_event(record)))
        except Exception:  # noqa: BLE001  (a record that cannot be written must not harm the program)
            self._delivery.note_dropped()
            self.handleError(record)

    def flush(self) -> None:
        """Make the thread send the waiting records now; do not wait for it."""
        self._delivery.hurry()

    def wait(self, timeout: float) -> bool:
        """Wait until all records taken so far are sent or dropped; False if the time ran out."""
        return self._delivery.wait(timeout)

    def close(self) -> None:
        """Send the waiting records, as long as there is time. ``logging`` calls this at the program's end."""
        if os.getpid() == self._process:
            self._delivery.close(self._patience)
        super().close()

    @property
    def sent(self) -> int:
        """The number of stored events."""
        return self._delivery.sent

    @property
    def dropped(self) -> int:
        """The number of lost events: no room, refused by the service, or no time left at the end."""
        return self._delivery.dropped

    def _begin(self) -> None:
        self._process = os.getpid()
        self._delivery = Delivery(
            self._endpoint, self._capacity, self._capacity_bytes, batch=self._batch, interval=self._interval
        )

    def _make_event(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            "occurredAt": _format_time(record.created),
            "email": self._email,
            "environment": sanitize_text(self._environment, limits.NAME),
            "component": sanitize_text(self._component or record.name, limits.NAME),
            "message": sanitize_message(self._make_message(record), limits.MESSAGE),
            "data": sanitize_value(self._make_data(record), limits.DATA_BYTES),
        }

    def _make_message(self, record: logging.LogRecord) -> str:
        """Write the message, by the formatter if there is one. The traceback and the stack go into data."""
        if self.formatter is None:
            return record.getMessage()
        bare = copy.copy(record)
        bare.exc_info = bare.exc_text = bare.stack_info = None
        return self.formatter.format(bare)

    def _make_data(self, record: logging.LogRecord) -> dict[str, Any]:
        data: dict[str, Any] = {
            "level": record.levelname,
            "levelNumber": record.levelno,
            "logger": record.name,
            "line": f"{record.pathname}:{record.lineno}",
            "process": record.process,
            "thread": record.threadName,
        }
        formatter = self.formatter or _FORMATTER
        exception = record.exc_text
        if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
            exception = formatter.formatException(record.exc_info)
        if exception:
            data["exception"] = cut_middle(exception, _LONGEST_TRACEBACK)
        if record.stack_info:
            data["stack"] = cut_middle(formatter.formatStack(record.stack_info), _LONGEST_TRACEBACK)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        clashing = {name: extra.pop(name) for name in list(extra) if name in data or name == "extra"}
        return data | extra | ({"extra": clashing} if clashing else {})


_FORMATTER = logging.Formatter()


def _format_time(seconds: float) -> str:
    microseconds = round(seconds * 1_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(microseconds // 1_000_000))
    return f"{moment}.{microseconds % 1_000_000:06d}Z"
