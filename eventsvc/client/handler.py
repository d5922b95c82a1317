"""Send a program's log records to eventsvc from the background.

    handler = EventHandler("http://127.0.0.1:8000", email="ops@example.com", environment="production")
    logging.getLogger().addHandler(handler)

The handler never raises into the program and never blocks it: records wait in bounded memory, a thread sends
them in batches, and what does not fit is dropped and counted. A batch that may or may not have arrived is sent
again under the same Idempotency-Key, so nothing is stored twice.
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
from eventsvc.text.clean import clean_message, clean_text, clean_value, cut_middle

# What every LogRecord has; anything else was given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST_TRACEBACK = 30_000  # characters


class EventHandler(logging.Handler):
    """A handler for the standard library's logging.

    Args:
        url: where the service is, without /event.
        email: who is responsible, for every event.
        environment: e.g. "production", for every event.
        component: the part of the system; the logger's name if not given.
        level: the least that is sent.
        api_key: sent as ``Authorization: Bearer``.
        capacity: records that may wait; more are dropped.
        capacity_bytes: the same in bytes of JSON.
        batch: records in one request.
        interval: seconds that a record waits at most for others.
        timeout: seconds for one request.
        patience: seconds that ``close``, and so the program's end, may wait for what is left.

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
            self._begin()  # after a fork: what waits there is the parent's to send, and its thread is not here
        if record.thread == self._delivery.thread_id:
            return  # the HTTP library's own records, while it sends ours
        try:
            self._delivery.offer(msgspec.json.encode(self._make_event(record)))
        except Exception:  # noqa: BLE001  (a record that cannot be written must not harm the program)
            self._delivery.note_dropped()
            self.handleError(record)

    def flush(self) -> None:
        """Send what waits now rather than with the next batch; it does not wait for that."""
        self._delivery.hurry()

    def wait(self, timeout: float) -> bool:
        """Wait until everything taken so far was sent or given up; tell whether that was in time."""
        return self._delivery.wait(timeout)

    def close(self) -> None:
        """Send what is left, as far as there is time; logging does this at the program's end."""
        if os.getpid() == self._process:
            self._delivery.close(self._patience)
        super().close()

    @property
    def sent(self) -> int:
        """Events stored."""
        return self._delivery.sent

    @property
    def dropped(self) -> int:
        """Events lost: no room, refused by the service, or no time left at the end."""
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
            "environment": clean_text(self._environment, limits.NAME),
            "component": clean_text(self._component or record.name, limits.NAME),
            "message": clean_message(self._make_message(record), limits.MESSAGE),
            "data": clean_value(self._make_data(record), limits.DATA_BYTES),
        }

    def _make_message(self, record: logging.LogRecord) -> str:
        """Write the message by the formatter if there is one; traceback and stack go into data."""
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
