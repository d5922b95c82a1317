"""A service to look at: API and indexer as processes, and events that look like a day of a shop."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extras import execute_values

from eventsvc.log.connection import connect
from tests.integration.language.test_real_logs import real_lines

TRACE = """java.lang.IllegalStateException: no price for sku B-7
\tat com.shop.orders.Pricing.priceOf(Pricing.java:118)
\tat com.shop.orders.Basket.total(Basket.java:64)
\tat com.shop.web.CheckoutHandler.handle(CheckoutHandler.java:41)
Caused by: java.net.SocketTimeoutException: connect timed out
\tat java.base/sun.nio.ch.NioSocketImpl.connect(NioSocketImpl.java:597)
\t... 23 more"""
PEOPLE = [f"{name}@chefhero.com" for name in ("diego", "maria", "nora", "tomas", "yuki", "amara", "lena", "omar")]
MESSAGES = {
    "orders": ["the buyer #{n} has placed an order", "order {n} is paid", "basket {n} was left"],
    "billing": ["invoice {n} was sent", "card of customer {n} was charged", "refund {n} is on its way"],
    "mail": ["mail {n} was delivered", "mail {n} bounced: mailbox full"],
    "web": ["GET /orders/{n} 200 in 14 ms", "GET /cart 200 in 8 ms", "login of user {n}"],
    "search": ["query took {n} ms", "index of products is {n} s old"],
    "stock": ["{n} pieces of A-1 are left", "delivery {n} has arrived"],
}


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


class Service:
    """`eventsvc serve` and `eventsvc index`, on a database and an index prefix of their own."""

    def __init__(self, database: str, elasticsearch: str, prefix: str, port: int = 0) -> None:
        self.database = database
        self._indexes = f"{elasticsearch}/{prefix}*"
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "EVENTSVC_DATABASE_URL": database,
            "EVENTSVC_ELASTICSEARCH_URL": elasticsearch,
            "EVENTSVC_INDEX_PREFIX": prefix,
            "EVENTSVC_PORT": str(self.port),
            "EVENTSVC_WORKERS": "1",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *commands: str) -> None:
        """Start what does not run."""
        for command in commands or ("serve", "index"):
            if command not in self._processes:
                line = [sys.executable, "-m", "eventsvc", command]
                self._processes[command] = subprocess.Popen(
                    line, env=self._environment, stderr=subprocess.DEVNULL, start_new_session=True
                )
        wait_until(lambda: self.ask("GET", "/readyz")[0] == 200, "the service is ready")

    def stop(self, *commands: str, how: int = signal.SIGTERM) -> None:
        for command in commands or ("serve", "index"):
            process = self._processes.pop(command, None)
            if process is not None:
                # Killed, the master takes nobody along.
                (os.killpg if how == signal.SIGKILL else os.kill)(process.pid, how)
                process.wait(30)

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text
        except OSError:
            return 0, None
        finally:
            connection.close()

    def send(self, **changes: Any) -> dict[str, Any]:
        """Store one event over HTTP, now."""
        event: dict[str, Any] = {"email": PEOPLE[0], "environment": "production", "component": "orders", "message": "x"}
        status, stored = self.ask("POST", "/event", event | changes)
        assert status == 201, stored
        return dict(stored)

    def admin(self, *arguments: str) -> str:
        """Run `eventsvc admin`; returns what it prints."""
        line = [sys.executable, "-m", "eventsvc", "admin", *arguments]
        return subprocess.run(line, env=self._environment, check=True, capture_output=True, text=True).stdout

    def key(self, name: str, *options: str) -> str:
        """Make a key that every process knows."""
        made = json.loads(self.admin("keys", "create", name, *options, "--json"))["key"]
        wait_until(lambda: self.ask("GET", "/event?limit=1", key=made)[0] in (200, 403), "the key is known")
        return str(made)

    def fill(self, events: list[dict[str, Any]]) -> None:
        """Put events into the log at the times that they bring along, oldest first."""
        rows = [
            (
                str(uuid.uuid4()),
                e["at"],
                e["email"],
                e["environment"],
                e["component"],
                e["message"],
                json.dumps(e["data"]),
            )
            for e in sorted(events, key=lambda e: e["at"])
        ]
        connection = connect(self.database)
        try:
            with connection.cursor() as cursor:
                execute_values(
                    cursor,
                    "INSERT INTO event (id, created_at, email, environment, component, message, data) VALUES %s",
                    rows,
                    page_size=5000,
                )
            connection.commit()
        finally:
            connection.close()

    def store(self, **changes: Any) -> None:
        """Store one event while the API is away."""
        event = {
            "at": datetime.now(UTC),
            "email": PEOPLE[0],
            "environment": "production",
            "component": "orders",
            "data": {},
        }
        self.fill([event | changes])

    def fill_many(self, count: int) -> None:
        """Store so many small events, numbered in the order of the log, fast."""
        connection = connect(self.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO event (id, created_at, email, environment, component, message, data) "
                    "SELECT gen_random_uuid(), now() - (%s - n) * interval '1 ms', 'a@example.com', 'test', 'many', "
                    "'event number ' || n, '{}' FROM generate_series(0, %s - 1) AS n",
                    (count, count),
                )
            connection.commit()
        finally:
            connection.close()
        self.wait_for_index()

    def wait_for_index(self) -> None:
        """Until the index has everything."""

        wait_until(lambda: self._lag() == "0", "the index has everything")

    def remove_indexes(self) -> None:
        found = self._elasticsearch("GET", f"{self._indexes}/_settings?expand_wildcards=all&flat_settings=true")
        if found:
            self._elasticsearch("DELETE", f"{self._indexes.rpartition('/')[0]}/{','.join(found)}")

    @staticmethod
    def _elasticsearch(method: str, url: str) -> Any:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return json.load(answer)

    def _lag(self) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/event?limit=1")
            answer = connection.getresponse()
            answer.read()
            return answer.getheader("Eventsvc-Lag")
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def day(count: int = 3000, *, seed: int = 7, hours: float = 23.0) -> list[dict[str, Any]]:
    """The last day of a shop, with an incident an hour ago."""
    dice = random.Random(seed)
    now = datetime.now(UTC)
    events = []
    for _ in range(count):
        component = dice.choices(list(MESSAGES), [6, 3, 2, 8, 3, 1])[0]
        number = dice.randrange(1000, 9_999_999)
        events.append(
            {
                "at": now - timedelta(hours=hours * dice.random() ** 1.2),
                "email": dice.choices(PEOPLE, range(len(PEOPLE), 0, -1))[0],
                "environment": dice.choices(["production", "staging", "development"], [8, 3, 1])[0],
                "component": component,
                "message": dice.choice(MESSAGES[component]).format(n=number),
                "data": {"level": dice.choice(["info", "info", "info", "warning"]), "ms": dice.randrange(2, 400)},
            }
        )
    events += [_failure(now - timedelta(minutes=50 + 14 * dice.random()), dice) for _ in range(count // 12)]
    return events


def machine(count: int = 60) -> list[dict[str, Any]]:
    """Lines of the logs, or other texts, that lie on this machine."""
    now = datetime.now(UTC)
    return [
        {
            "at": now - timedelta(hours=2, minutes=15 * place),
            "email": "root@machine.test",
            "environment": "development",
            "component": "machine",
            "message": text,
            "data": {"file": name, "place": place},
        }
        for place, (name, text) in enumerate(_real_lines(count))
    ]


@functools.cache
def _real_lines(count: int) -> list[tuple[str, str]]:
    """The same lines for whoever asks again, whatever is written to the logs meanwhile."""
    found = [line for line in itertools.islice(real_lines(), 50 * count) if "\x1b" not in line[1]]
    assert found, "this machine has no texts"
    return found[:: max(1, len(found) // count)][:count]


def _failure(at: datetime, dice: random.Random) -> dict[str, Any]:
    return {
        "at": at,
        "email": dice.choice(PEOPLE),
        "environment": "production",
        "component": "orders",
        "message": dice.choice([TRACE, f"\x1b[31mERROR\x1b[0m checkout of basket {dice.randrange(10**6)} failed"]),
        "data": {
            "level": "error",
            "ms": dice.randrange(2000, 5000),
            "order": {"id": dice.randrange(10**6), "total": 99.5, "lines": [{"sku": "A-1"}, {"sku": "B-7"}]},
            "host": dice.choice(["web-1", "web-2"]),
        },
    }
