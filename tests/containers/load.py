"""Writers that note what was acknowledged, through the balancer, while things are killed around them."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.containers.stack import Stack

Key = dict[str, str] | None  # the header that lets us in


@dataclass
class Outcome:
    """What became of the requests; written by all threads, under the lock."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # our own number of the event → its id
    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def more(self, count: int) -> Callable[[], bool]:
        """Give a condition that holds once so many more events than now are acknowledged."""
        goal = len(self.acknowledged) + count
        return lambda: len(self.acknowledged) > goal


class Load:
    """A context manager: threads that POST one event after the other from entry to exit."""

    def __init__(
        self, port: int, *, threads: int = 8, keys: bool = False, again: bool = False, key: Key = None
    ) -> None:
        """Set up the writers.

        Args:
            port: the balancer's.
            threads: how many write at a time.
            keys: send an Idempotency-Key with each event.
            again: send an event again until it is acknowledged.
            key: the header that lets us in.
        """
        self.run = uuid.uuid4().hex[:12]
        self._again = again
        self.outcome = Outcome()
        self._port, self._keys, self._key = port, keys, key or {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def event(self, number: str) -> dict[str, Any]:
        return {
            "email": "load@example.com",
            "environment": "load",
            "component": self.run,
            "message": f"event {number} of {self.run}",
            "data": {"number": number, "run": self.run},
        }

    def _write(self, thread: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        count = 0
        while not self._stop.is_set():
            number = f"{thread}-{count}"
            count += 1
            began = time.monotonic()
            try:
                status, body = self._post(connection, number)
            except (OSError, http.client.HTTPException) as exc:
                connection.close()
                self._note(number, 0, repr(exc), began)
            else:
                self._note(number, status, body, began)
                if status >= 500:
                    self._stop.wait(0.05)
            if self._again and number not in self.outcome.acknowledged:
                count -= 1
        with suppress(OSError):
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, number: str) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", **self._key}
        if self._keys:
            headers["Idempotency-Key"] = f'"{self.run}-{number}"'
        connection.request("POST", "/event", json.dumps(self.event(number)), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def _note(self, number: str, status: int, body: str, began: float) -> None:
        outcome = self.outcome
        with outcome.lock:
            outcome.statuses[status] += 1
            outcome.slowest = max(outcome.slowest, time.monotonic() - began)
            if status == 201:
                outcome.acknowledged[number] = json.loads(body)["id"]
            else:
                outcome.failures.append(f"{status}: {body[:300]}")


def check(stack: Stack, load: Load, *, allowed: set[int]) -> None:
    """Every acknowledged event is there once, none is there twice, and what failed did so in an orderly way."""
    outcome = load.outcome
    assert outcome.acknowledged
    assert set(outcome.statuses) <= {201} | allowed, (outcome.statuses, outcome.failures[:3])
    stored = stack.export(f"component eq '{load.run}'")
    numbers = Counter(event["data"]["number"] for event in stored)
    assert [number for number, count in numbers.items() if count > 1] == []
    assert outcome.acknowledged.items() <= {event["data"]["number"]: event["id"] for event in stored}.items()
