"""The writers and readers of chaos.py, and what they have seen."""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eventsvc.errors import EventsvcError
from eventsvc.log.connection import connect, translate_errors
from eventsvc.log.progress import watermark

WRITERS, READERS = 8, 4
PATIENCE = 400.0  # seconds for everything to come back
BUSY = frozenset({409, 429, 500, 502, 503, 504})


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Wrong(Exception):
    """Something that must never happen."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Wrong(f"{what} within {seconds:.0f} s")
        time.sleep(0.05)
    return value


@dataclass
class Traffic:
    """Writers and readers, and what they have seen."""

    port: int
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    over: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)  # of the next three
    acknowledged: dict[str, str] = field(default_factory=dict)  # marker → id
    condemned: set[str] = field(default_factory=set)  # markers of what is being erased, or is erased
    gone: dict[str, str] = field(default_factory=dict)  # marker → id, once the erasure was answered
    writing: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    searches: int = 0
    by_log: int = 0
    questions: int = 0  # about what is gone
    wrong: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.gate.set()
        for work, count in ((self._write, WRITERS), (self._read, READERS), (self._look_for_gone, 1)):
            for number in range(count):
                self.threads.append(threading.Thread(target=work, args=(number,), daemon=True))
                self.threads[-1].start()

    def quiet(self) -> None:
        """Let the writers finish what they have begun, and wait."""
        self.gate.clear()
        wait_for(lambda: not +self.writing, "the writers got no answer")

    def alive(self) -> dict[str, str]:
        """What must be in every answer: marker → id."""
        with self.lock:
            return {marker: name for marker, name in self.acknowledged.items() if marker not in self.condemned}

    def condemn(self, chosen: dict[str, str]) -> None:
        """From now on these need not be found."""
        with self.lock:
            self.condemned |= chosen.keys()

    def bury(self, chosen: dict[str, str]) -> None:
        """From now on these may not be found."""
        with self.lock:
            self.gone |= chosen

    def ask(self, method: str, target: str, body: Any = None, key: str = "") -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": f'"{key}"'} if key else {})
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(text) if text else None
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}, None
        finally:
            connection.close()

    def _write(self, number: int) -> None:
        count = 0
        while not self.over.is_set():
            self.gate.wait(0.2)
            if not self.gate.is_set():
                continue
            self.writing[str(number)] = 1
            count += 1
            self._write_one(f"w{number}n{count}.")
            self.writing[str(number)] = 0
            time.sleep(0.002)

    def _write_one(self, marker: str) -> None:
        """Try again with the same key until it is acknowledged."""
        while not self.over.is_set():
            status, _, answer = self.ask("POST", "/event", _event(marker), self._key(marker))
            if status == 201:
                with self.lock:
                    self.acknowledged[marker] = answer["id"]
                return
            if status and status not in BUSY:
                self.wrong.append(f"POST answered {status}: {answer}")
                return
            self.refused += 1
            time.sleep(0.05)

    def _key(self, marker: str) -> str:
        return f"{self.run}-{marker}"

    def _look_for_gone(self, number: int) -> None:
        """Ask about what was erased, in every way there is: nothing may answer with it."""
        chance = random.Random(number)
        while not self.over.is_set():
            with self.lock:
                gone = list(self.gone)[-500:]
            if gone:
                marker = chance.choice(gone)
                self.ask_about_gone(marker, self.gone[marker])
            time.sleep(0.05)

    def ask_about_gone(self, marker: str, name: str) -> None:
        """Note as wrong whatever answers with an erased event."""
        q = urllib.parse.urlencode({"q": f"message ct '{marker}'"})
        questions: tuple[tuple[str, str, Any, tuple[int, Any]], ...] = (
            ("GET", f"/event?{q}", None, (200, [])),
            ("GET", f"/event?{q}&consistency=strong&count=true", None, (200, [])),
            ("GET", f"/event/stats?{q}", None, (200, 0)),
            ("GET", f"/event/{name}", None, (404, None)),
            ("POST", "/event", _event(marker), (410, None)),
        )
        for method, target, body, expected in questions:
            status, headers, answer = self.ask(method, target, body, self._key(marker) if body else "")
            if not status or status in BUSY:
                continue
            self.questions += 1
            seen = answer["count"] if "stats" in target else answer if status == 200 else None
            if (status, seen) != expected:
                self.wrong.append(f"{marker} is erased, and {method} {target} answers {status}: {answer} {headers}")

    def _read(self, number: int) -> None:
        chance = random.Random(number)
        while not self.over.is_set():
            with self.lock:
                markers = [marker for marker in list(self.acknowledged)[-2_000:] if marker not in self.condemned]
            if not markers:
                time.sleep(0.05)
                continue
            # Often the newest: read your own writes.
            marker = markers[-1] if chance.random() < 0.5 else chance.choice(markers)
            target = "/event?" + urllib.parse.urlencode({"q": f"message ct '{marker}'"})
            status, headers, found = self.ask("GET", target)
            if status == 200:
                self.searches += 1
                self.by_log += headers.get("eventsvc-source") == "sql"
                exact = [event["id"] for event in found] == [self.acknowledged[marker]]
                if not exact and marker not in self.condemned:
                    self.wrong.append(f"{marker} was acknowledged, and a search finds it {len(found)} times: {headers}")
            elif status and status not in BUSY:
                self.wrong.append(f"GET answered {status}: {found}")
            time.sleep(0.01)


def _event(marker: str) -> dict[str, Any]:
    who = {"email": "chaos@chefhero.com", "environment": "test", "component": "chaos"}
    return who | {"message": f"event {marker}", "data": {"marker": marker}}


class Monitor(threading.Thread):
    """Sees that the watermark never falls."""

    def __init__(self, dsn: str, traffic: Traffic) -> None:
        super().__init__(daemon=True)
        self.dsn, self.traffic, self.looks = dsn, traffic, 0

    def run(self) -> None:
        highest, connection = 0, None
        while not self.traffic.over.is_set():
            time.sleep(0.05)
            with suppress(EventsvcError), translate_errors():
                if connection is None or connection.closed:
                    connection = connect(self.dsn)
                seq = watermark.read(connection).seq
                self.looks += 1
                if seq < highest:
                    self.traffic.wrong.append(f"the watermark fell from {highest} to {seq}")
                highest = max(highest, seq)
