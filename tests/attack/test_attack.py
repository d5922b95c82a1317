"""The service is attacked while others use it. ``make attack`` does so for minutes and prints what it has seen.

The service runs in three ways: open, with keys and a limit for each address, and with 256 descriptors.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from eventsvc.access import store
from eventsvc.log.connection import connect
from tests.attack import attacks, canaries
from tests.report import replace_block

LONG = bool(os.environ.get("FULL_RUN"))
SEED = int(os.environ.get("SEED", "25"))
SIZE, SECONDS = (6, 40.0) if LONG else (1, 1.0)
LOAD = os.getloadavg()[0]
# A machine that is busy with anything else lets everybody wait.
WORST_CANARY = 0.5 if LONG and LOAD < (os.cpu_count() or 1) else 30.0  # seconds
MEMORY = (64 if LONG else 200) * 2**20  # bytes that a worker may use more afterwards
POOLS = 48  # descriptors of connections to both stores, which a worker opens when it first needs them
_DEADLINE = 30.0
_HERE = Path(__file__).parent


@dataclass
class Worker:
    """What one worker process uses."""

    memory: int
    descriptors: int


class Service:
    """`eventsvc serve` with two workers, and `eventsvc index`."""

    def __init__(self, folder: Path, *, key: str = "", descriptors: int = 0, **environment: str) -> None:
        self.key, self._descriptors = key, descriptors
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log = folder / "service.log"
        environment |= {"EVENTSVC_PORT": str(self.port), "EVENTSVC_WORKERS": "2", "EVENTSVC_LOG_FORMAT": "json"}
        self._environment = os.environ | environment
        self.processes = [self._launch("serve"), self._launch("index")]
        if not _until(self._answers, seconds=120.0):
            self.stop()
            pytest.fail(f"the service does not start: {self.log.read_text(encoding='utf-8')[-3000:]}")
        self.warm_up()
        self.first_workers = self.workers()

    def _launch(self, command: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "eventsvc", command]
        if self._descriptors and command == "serve":
            line = ["prlimit", f"--nofile={self._descriptors}:{self._descriptors}", *line]
        with self.log.open("ab") as log:
            return subprocess.Popen(line, env=self._environment, stderr=log)

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return answer.status == 200 and len(self.workers()) == 2
        except OSError:
            return False

    def workers(self) -> dict[int, Worker]:
        serve = self.processes[0].pid
        children = Path(f"/proc/{serve}/task/{serve}/children").read_text(encoding="ascii").split()
        return {int(pid): _measure(pid) for pid in children}

    def server_errors(self) -> dict[str, int]:
        """Count answers of 500 and more, but not 503, by status."""
        with self._ask("GET", "/metrics") as answer:
            text = answer.read().decode()
        counted = Counter[str]()
        for status, count in re.findall(r'^eventsvc_requests_total\{.*status="(5\d\d)"\} (\S+)', text, re.MULTILINE):
            counted[status] += int(float(count))
        del counted["503"]
        return dict(counted)

    def complaints(self) -> list[str]:
        """Give the lines of the log that should not be there."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [
            line[:2000] for line in lines if re.search(r"Traceback|TIMEOUT|\"log.level\": ?\"(error|critical)", line)
        ]

    def warm_up(self) -> None:
        """Store an event, and wait until it is in the index, because the first event of a month makes an index."""
        with self._ask("POST", "/event", canaries.EVENT):
            assert _until(lambda: self._watermark() > 0)

    def _watermark(self) -> int:
        with self._ask("GET", f"/event?q={canaries.QUERY}") as answer:
            return int(answer.headers.get("Eventsvc-Watermark", 0))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self.key}", "X-Forwarded-For": "10.0.0.2"} if self.key else {}
        request = Request(f"http://127.0.0.1:{self.port}{path}", body, headers | canaries.JSON, method=method)
        answer: HTTPResponse = urlopen(request, timeout=_DEADLINE)
        return answer

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)


def _measure(pid: str) -> Worker:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return Worker(int(found[1]) * 1024 if found else 0, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def _until(condition: Callable[[], Any], seconds: float = _DEADLINE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


Start = Callable[..., Service]


@pytest.fixture
def start(database: str, elasticsearch_url: str, index_prefix: str, tmp_path: Path) -> Iterator[Start]:
    """Start the service in one of its ways."""
    made: list[Service] = []

    def run(**how: Any) -> Service:
        made.append(
            Service(
                tmp_path,
                EVENTSVC_DATABASE_URL=database,
                EVENTSVC_ELASTICSEARCH_URL=elasticsearch_url,
                EVENTSVC_INDEX_PREFIX=index_prefix,
                EVENTSVC_SEARCH_TIMEOUT="10" if LONG else "2",
                EVENTSVC_ELASTICSEARCH_TIMEOUT="10" if LONG else "2",
                **how,
            )
        )
        return made[-1]

    yield run
    for one in made:
        one.stop()


@dataclass
class Attacked:
    """One attack, and how the canaries were meanwhile."""

    what: str
    began: float
    seconds: float
    answers: Counter[int]
    worst: dict[str, float] = field(default_factory=dict)


def _attack(attack: Callable[[Any], None], port: int, **more: Any) -> Attacked:
    target = attacks.Target(port, SIZE, SECONDS, SEED, **more)
    began = time.time()
    attack(target)
    return Attacked((attack.__doc__ or "").strip(), began, time.time() - began, target.answers)


def _run(service: Service, ways: tuple[attacks.Attack, ...], **more: Any) -> tuple[list[Attacked], list[Any]]:
    """Attack in all ways, one after the other, with canaries beside."""
    command = [sys.executable, str(_HERE / "canaries.py"), str(service.port), service.key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as singing:
        done = [_attack(attack, service.port, **more) for attack in ways]
        seen = json.loads(singing.communicate("\n")[0])
    for one in done:
        for kind, began, seconds, _ in seen:
            if began + seconds >= one.began and began <= one.began + one.seconds:
                one.worst[kind] = max(one.worst.get(kind, 0.0), seconds)
    return done, seen


def _is_calm(service: Service, before: dict[int, Worker]) -> bool:
    now = service.workers()
    return all(
        pid in now and now[pid].memory - was.memory < MEMORY and now[pid].descriptors - was.descriptors < POOLS
        for pid, was in before.items()
    )


def _render(done: list[Attacked], seen: list[Any], before: dict[int, Worker], after: dict[int, Worker]) -> str:
    lines = ["| attack | seconds | answers | worst healthz, POST, search |", "| --- | --- | --- | --- |"]
    for one in done:
        answers = _render_answers(one.answers)
        worst = ", ".join(f"{one.worst.get(kind, 0) * 1000:.0f} ms" for kind in ("healthz", "POST", "search"))
        lines.append(f"| {one.what} | {one.seconds:.1f} | {answers} | {worst} |")
    told = _render_answers(Counter(status for *_, status in seen))
    memory = "; ".join(
        f"{was.memory >> 20} → {now.memory >> 20} MiB and {was.descriptors} → {now.descriptors} descriptors"
        for was, now in ((was, after[pid]) for pid, was in before.items() if pid in after)
    )
    load = f"The machine has {os.cpu_count()} cores; its load was {LOAD:.1f} before."
    return "\n".join([*lines, "", f"Canaries were answered {told}. The workers used {memory}. {load}"])


def _render_answers(answers: Counter[int]) -> str:
    return ", ".join(f"{status or 'none'}: {count:,}" for status, count in sorted(answers.items()))


def _write_report(name: str, text: str) -> None:
    print(text)  # noqa: T201
    if path := os.environ.get("REPORT"):
        replace_block(Path(path), name, text)


def _check(name: str, service: Service, ways: tuple[attacks.Attack, ...], **more: Any) -> Counter[int]:
    """Attack, and check that nothing has happened to the service or to the canaries; give the answers."""
    before = service.workers()
    done, seen = _run(service, ways, **more)
    calm = _until(lambda: _is_calm(service, before), seconds=60.0 if LONG else 20.0)
    text = _render(done, seen, before, service.workers())
    _write_report(name, text)
    assert service.workers().keys() == service.first_workers.keys(), "a worker was killed"
    assert service.complaints() == []
    assert service.server_errors() == {}
    assert not {status for *_, status in seen} - {200, 201, 503}
    assert calm, text
    assert max(seconds for _, _, seconds, _ in seen) < WORST_CANARY, text
    return sum((one.answers for one in done), Counter[int]())


def test_nobody_stops_the_service_or_starves_others(start: Start) -> None:
    _check("attack", start(), attacks.ATTACKS, malformed=80_000)


def test_nobody_with_a_key_or_without_stops_the_service_or_starves_others(start: Start, database: str) -> None:
    """The clients behind a proxy have addresses of their own. Neither wrong keys nor one key's reads slow others."""
    with closing(connect(database)) as connection:
        made = {
            name: store.create(connection, store.Wanted(name, rights, rate=rate)).text
            for name, rights, rate in (
                ("canary", ("read", "write", "metrics"), ""),
                ("reader", ("read",), ""),
                ("writer", ("write",), ""),
                ("admin", ("admin", "erase"), ""),
                ("limited", ("read",), "20/s"),
            )
        }
    service = start(key=made["canary"], EVENTSVC_ADDRESS_RATE="100/s")
    keys = (made["reader"], made["writer"], made["admin"])
    ways = attacks.WITH_KEYS
    answers = _check("attack-keys", service, ways, keys=keys, limited_key=made["limited"], malformed=20_000)
    assert answers[401]
    assert answers[429]


@pytest.mark.skipif(not LONG, reason="test_bounds.py has a short one")
def test_nobody_takes_the_last_descriptor(start: Start) -> None:
    _check("attack-descriptors", start(descriptors=256), attacks.WITH_FEW_DESCRIPTORS)
