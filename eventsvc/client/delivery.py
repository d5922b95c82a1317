"""The sending half of the client: a bounded queue, and a thread that repeats each request until it is answered."""

from __future__ import annotations

import gzip
import json
import queue
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import urllib3

_NDJSON = "application/x-ndjson"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between tries
_LAST_MOMENT = 0.2  # seconds to wait for the thread; a hanging request is abandoned
_BATCH_BYTES = 1024 * 1024
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and the key of a service.

    Raises:
        ValueError: the URL or the key cannot be used.
    """

    url: str
    api_key: str
    timeout: float

    def __post_init__(self) -> None:
        """Check the URL and the key here, in the program's own thread, because each request would fail later."""
        try:
            parts = urllib3.util.parse_url(self.url)
        except urllib3.exceptions.LocationParseError as exc:
            raise ValueError(f"{self.url!r} is not a URL") from exc
        if parts.scheme not in {"http", "https"} or not parts.host or parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} is not the URL of a service, like http://127.0.0.1:8000")
        if not (self.api_key.isascii() and (self.api_key + "x").isprintable()) or " " in self.api_key:
            raise ValueError("api_key holds a space, a line end or another character that no key has")
        if self.timeout <= 0:
            raise ValueError(f"timeout is {self.timeout}: it must be more than 0")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int  # 0: none
    retry_after: float = 0.0
    body: bytes = b""


class Delivery:
    """Takes encoded events from any thread and sends them in batches, in order."""

    def __init__(self, endpoint: Endpoint, capacity: int, capacity_bytes: int, *, batch: int, interval: float) -> None:
        self._endpoint, self._batch, self._interval = endpoint, batch, interval
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        # SimpleQueue.put is safe in a signal handler and in a __del__ that interrupts another put.
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._taken = self._taken_bytes = 0  # written by ``offer``, under the handler's lock
        self._done = self._done_bytes = 0  # written by the sending thread
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._progress = threading.Condition()
        self._warned = False
        self._thread: threading.Thread | None = None
        self.sent = self._refused = 0  # written by the sending thread
        self._no_room = 0  # written under the handler's lock

    @property
    def thread_id(self) -> int | None:
        """The id of the sending thread; None before it starts."""
        return self._thread.ident if self._thread else None

    @property
    def dropped(self) -> int:
        """The number of lost events: no room, refused, or still waiting at the end."""
        return self._no_room + self._refused + (self._taken - self._done if self._closing.is_set() else 0)

    def note_dropped(self) -> None:
        """Count an event that could not be encoded."""
        self._no_room += 1

    def offer(self, event: bytes) -> None:
        """Queue an event, or drop it if there is no room."""
        waiting, waiting_bytes = self._taken - self._done, self._taken_bytes - self._done_bytes
        if self._closing.is_set() or waiting >= self._capacity or waiting_bytes + len(event) > self._capacity_bytes:
            self._no_room += 1
            return
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="eventsvc-delivery", daemon=True)
            thread.start()
            self._thread = thread
        self._taken += 1
        self._taken_bytes += len(event)
        self._queue.put(event)

    def hurry(self) -> None:
        """Make the thread send the waiting events now."""
        self._hurry.set()
        self._queue.put(b"")  # wakes the thread

    def wait(self, timeout: float) -> bool:
        """Wait until all events queued so far are sent or dropped; False if the time ran out."""
        goal = self._taken
        self.hurry()
        with self._progress:
            return self._progress.wait_for(lambda: self._done >= goal, timeout)

    def close(self, timeout: float) -> None:
        """Send waiting events as long as there is time; the rest counts as dropped."""
        if self._closing.is_set():
            return
        self.wait(timeout)
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_LAST_MOMENT)

    def _run(self) -> None:
        with urllib3.PoolManager(maxsize=1, timeout=self._endpoint.timeout, retries=False) as pool:
            while not self._closing.is_set():
                batch = self._collect()
                if batch:
                    self._account(pool, batch)

    def _account(self, pool: urllib3.PoolManager, batch: list[bytes]) -> None:
        """Deliver a batch and count each event once. An exception must not end the thread."""
        counted = self.sent + self._refused
        try:
            self._deliver(pool, batch)
        except Exception as exc:  # noqa: BLE001  (see above)
            self._refused += len(batch) - (self.sent + self._refused - counted)
            self._warn(f"events could not be sent: {exc!r}")
        with self._progress:
            self._done += len(batch)
            self._done_bytes += sum(map(len, batch))
            self._progress.notify_all()

    def _collect(self) -> list[bytes]:
        """Wait for an event, then for more events until the batch is full or the interval is over."""
        batch: list[bytes] = []
        size = 0
        deadline: float | None = None
        while len(batch) < self._batch and size < _BATCH_BYTES:
            patience = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                event = self._queue.get(timeout=0 if self._hurry.is_set() and batch else patience)
            except queue.Empty:
                break
            if event is None:
                break
            if event:
                batch.append(event)
                size += len(event)
                deadline = deadline or time.monotonic() + self._interval
            elif not batch:
                break
        if self._queue.empty():
            self._hurry.clear()
        return batch

    def _deliver(self, pool: urllib3.PoolManager, batch: list[bytes]) -> None:
        """Send a batch again and again until the service answers, or the program ends."""
        key, body = str(uuid.uuid4()), gzip.compress(b"\n".join(batch), 1)
        pause = _FIRST_PAUSE
        while True:
            answer = self._post(pool, key, body)
            if not _worth_another_try(answer.status):
                break
            self._warn(f"no answer from {self._endpoint.url}" if not answer.status else _reason(answer))
            if self._closing.wait(max(pause, answer.retry_after)):
                self._refused += len(batch)
                return
            pause = min(pause * 2, _LONGEST_PAUSE)
        if answer.status == _TOO_LARGE and len(batch) > 1:
            middle = len(batch) // 2
            self._deliver(pool, batch[:middle])
            self._deliver(pool, batch[middle:])
        else:
            self._count(answer, len(batch))

    def _post(self, pool: urllib3.PoolManager, key: str, body: bytes) -> _Answer:
        headers = {"Content-Type": _NDJSON, "Content-Encoding": "gzip", "Idempotency-Key": f'"{key}"'}
        if self._endpoint.api_key:
            headers["Authorization"] = f"Bearer {self._endpoint.api_key}"
        try:
            # partial: one bad event must not keep the others from being stored.
            url = f"{self._endpoint.url}/event?partial=true"
            answer = pool.request("POST", url, body=body, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError):
            return _Answer(0)
        return _Answer(answer.status, _seconds(answer.headers.get("Retry-After")), answer.data)

    def _count(self, answer: _Answer, size: int) -> None:
        stored = _stored(answer)
        if stored < size:
            self._warn(f"{size - stored} of {size} events were refused: {_reason(answer)}")
        self.sent += stored
        self._refused += size - stored

    def _warn(self, reason: str) -> None:
        """Print the first trouble on stderr. A log record about it might come back to this handler."""
        if not self._warned and sys.stderr is not None:
            self._warned = True
            with suppress(Exception):  # a stream that is closed
                print(f"eventsvc.client: {reason}; further trouble is only counted", file=sys.stderr)  # noqa: T201


def _worth_another_try(status: int) -> bool:
    return status in {0, 408, 409, 425, 429} or status >= 500  # noqa: PLR2004


def _seconds(text: str | None) -> float:
    """Read Retry-After in seconds; a date, which is rare, counts as the longest pause."""
    if not text:
        return 0.0
    try:
        return min(float(text), _LONGEST_PAUSE)
    except ValueError:
        return _LONGEST_PAUSE


def _stored(answer: _Answer) -> int:
    """Give the number of stored events from the answer's body, because another server may also answer 200."""
    count = _read(answer).get("count")
    return count if answer.status in {200, 201} and isinstance(count, int) else 0


def _reason(answer: _Answer) -> str:
    """Give the reason in an answer: the first bad event, or the problem."""
    told = _read(answer)
    errors = told.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return f"{errors[0].get('pointer')}: {errors[0].get('detail')} (HTTP {answer.status})"
    detail = told.get("detail") or told.get("title") or ("count" not in told and "this is no answer of eventsvc")
    return f"{detail} (HTTP {answer.status})" if detail else f"HTTP {answer.status}"


def _read(answer: _Answer) -> dict[str, Any]:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
