"""Clients that write through the API while a worker is lost or shards move, and the process of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import urllib3

from eventsvc.dev.postgres import answers
from eventsvc.settings import Settings
from tests.bench.service import Service

COMPONENTS = tuple(f"c{number}" for number in range(12))
BULK = 20  # events
_OWN = {"EVENTSVC_PORT", "EVENTSVC_LOG_LEVEL"}  # settings that the service of the test has for itself


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Run the API in processes of its own; give its address."""
    chosen = {name: text for name, text in settings.to_environment().items() if name not in _OWN}
    with Service(chosen | {"EVENTSVC_WORKERS": "1"}, "-m", "eventsvc", "serve") as service:
        yield f"http://127.0.0.1:{service.port}"


@contextmanager
def following(url: str, output: Path) -> Iterator[Callable[[], list[str]]]:
    """Follow the events of the load, as `eventsvc tail` does; give a function that gives their messages."""
    command = [sys.executable, "-m", "eventsvc", "tail", "environment eq 'load'", "--json", "--url", url]
    with output.open("wb") as file:
        tail = subprocess.Popen(command, stdout=file)
    try:
        yield lambda: [event["message"] for event in read_events(output)]
    finally:
        tail.terminate()
        tail.wait(60)


def read_events(output: Path) -> list[dict[str, Any]]:
    """Read the events that `eventsvc tail --json` has written so far; the last line may be incomplete."""
    complete, _, _ = output.read_text().rpartition("\n")
    return [json.loads(line) for line in complete.splitlines()]


class Load:
    """A context manager: threads that write from entry to exit, each until it is acknowledged or sends another event.

    Each component has a writer of single events. Half of these writers send an Idempotency-Key, and send an event again
    until it is acknowledged. One more writer sends bulk requests with a key; each contains events of all components.

    Attributes:
        acknowledged: the messages of the acknowledged events, by component.
        statuses: how often each status came, by component; "bulk" for bulk requests.
        problems: the types of the problems.
    """

    def __init__(self, url: str) -> None:
        self._url, self._run = url, uuid.uuid4().hex[:8]
        self.acknowledged: dict[str, set[str]] = defaultdict(set)
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.problems: Counter[str] = Counter()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [
            *(threading.Thread(target=self._write, args=(i, name)) for i, name in enumerate(COMPONENTS)),
            threading.Thread(target=self._write_bulks),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def messages(self) -> set[str]:
        """Give the messages of all events that are acknowledged by now."""
        with self._lock:
            return set().union(*self.acknowledged.values())

    def count(self, component: str, status: int) -> int:
        with self._lock:
            return self.statuses[component][status]

    def all_served(self, components: set[str]) -> Callable[[], bool]:
        """Give a condition: ten more events of each component are acknowledged from now on."""
        before = {name: len(self.acknowledged[name]) for name in components}
        return lambda: all(self.has_stored({name}, count + 10) for name, count in before.items())

    def has_stored(self, components: set[str], count: int) -> bool:
        """Tell whether so many events of each component are acknowledged."""
        with self._lock:
            return all(len(self.acknowledged[name]) >= count for name in components)

    def _write(self, number: int, component: str) -> None:
        http = urllib3.PoolManager()
        while not self._stop.is_set():
            message = f"{self._run} {uuid.uuid4().hex}"
            body = json.dumps(_event(component, message))
            headers = {"Content-Type": "application/json"}
            if number % 2:
                headers["Idempotency-Key"] = f'"{message}"'
            while not self._post(http, component, [message], body, headers) and number % 2 and not self._stop.is_set():
                self._stop.wait(0.02)

    def _write_bulks(self) -> None:
        http = urllib3.PoolManager()
        while not self._stop.is_set():
            messages = [f"{self._run} bulk {uuid.uuid4().hex}" for _ in range(BULK)]
            events = [_event(COMPONENTS[i % len(COMPONENTS)], message) for i, message in enumerate(messages)]
            body = "\n".join(map(json.dumps, events))
            headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f'"{messages[0]}"'}
            while not self._post(http, "bulk", messages, body, headers) and not self._stop.is_set():
                self._stop.wait(0.05)

    def _post(self, http: urllib3.PoolManager, name: str, messages: list[str], body: str, headers: Any) -> bool:
        answer = http.request("POST", f"{self._url}/event", body=body, headers=headers, timeout=180, retries=False)
        with self._lock:
            self.statuses[name][answer.status] += 1
            if answer.status in {200, 201}:
                self.acknowledged[name].update(messages)
                return True
            self.problems[answer.json()["type"]] += 1
        return False


def _event(component: str, message: str) -> dict[str, str]:
    return {"email": "a@b.cd", "environment": "load", "component": component, "message": message}


def post_with_key(url: str, component: str, key: str) -> urllib3.BaseHTTPResponse:
    """Store an event with an Idempotency-Key, or ask for it again."""
    body, headers = _event(component, key), {"Idempotency-Key": f'"{key}"'}
    return urllib3.request("POST", f"{url}/event", json=body, headers=headers, timeout=60)


def check_stored_once(log: Any, load: Load) -> set[str]:
    """Every acknowledged event is in the log, and no event is there twice; give the messages of all events there."""
    rows = log.fetch("SELECT message, count(*) FROM event WHERE environment = 'load' GROUP BY message")
    messages = {message for message, _ in rows}
    assert {count for _, count in rows} == {1}
    assert load.messages() <= messages
    assert all(status in {200, 201, 409, 503} for counts in load.statuses.values() for status in counts)
    return messages


class LocalServer:
    """A PostgreSQL of this machine that somebody else has started. It can be killed, and started as it was."""

    def __init__(self, url: str, folder: str) -> None:
        self._url = url
        self._postmaster = Path(folder, "postmaster.pid")
        process = Path("/proc", self._pid())
        self._command = [part.decode() for part in (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")]
        pairs = (pair.partition("=") for pair in (process / "environ").read_text().split("\0") if pair)
        self._environment = {name: value for name, _, value in pairs}
        self._folder = str((process / "cwd").readlink())
        owner = process.stat()
        self._owner: dict[str, Any] = {}
        if os.getuid() == 0:
            self._owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}

    def _pid(self) -> str:
        return self._postmaster.read_text().split()[0]

    def kill(self) -> None:
        """Kill every process of the server at once, as the loss of its machine does."""
        pids = self.freeze()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(Path(f"/proc/{pid}").exists() for pid in pids):  # else the next server takes the killed one as alive
            time.sleep(0.01)

    def freeze(self) -> list[int]:
        """Stop every process of the server; the kernel still accepts connections and bytes for them."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the processes go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> list[int]:
        """Signal every process of the server; give their ids. A stopped postmaster starts no processes meanwhile."""
        postmaster = int(self._pid())
        os.kill(postmaster, which)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), which)
        return [postmaster, *map(int, children)]

    def start(self) -> None:
        """Start the server, unless it runs."""
        if answers(self._url):
            return
        # The shell ends at once, so the server outlives the test like the server that was killed.
        subprocess.run(
            ["sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "sh", *self._command],
            check=True,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,
            **self._owner,
        )
