"""The API and the indexer as processes of their own, over servers of this run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

# Set by `make chaos-reading`: the whole of what the documentation promises, in minutes. Else a short variant.
FULL = bool(os.environ.get("FULL_RUN"))


def wait_until(
    condition: Callable[[], Any],
    seconds: float = 60.0,
    explain: Callable[[], str] = lambda: "it did not happen in time",
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`eventsvc serve` and `eventsvc index`; ended by their own process ids."""

    def __init__(self, folder: Path, database: str, elasticsearch: str, prefix: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.full = FULL
        self.wait_until = wait_until
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")} | {
            "EVENTSVC_DATABASE_URL": database,
            "EVENTSVC_ELASTICSEARCH_URL": elasticsearch,
            "EVENTSVC_ELASTICSEARCH_TIMEOUT": "3",
            "EVENTSVC_INDEX_PREFIX": prefix,
            "EVENTSVC_PORT": str(self.port),
            "EVENTSVC_WORKERS": "1",
        }

    def start(self, command: str, **settings: str) -> None:
        extra = {f"EVENTSVC_{name.upper()}": value for name, value in settings.items()}
        with (self._folder / f"{command}.log").open("ab") as log:
            self._processes[command] = subprocess.Popen(
                [sys.executable, "-m", "eventsvc", command], env=self._environment | extra, stdout=log, stderr=log
            )
        if command == "serve":
            wait_until(self._ready, 120, lambda: self.log(command)[-3000:])

    def _ready(self) -> bool:
        with suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        return False

    def log(self, command: str) -> str:
        return (self._folder / f"{command}.log").read_text()

    def worker(self) -> int:
        """The process id of the one worker."""
        parent = self._processes["serve"].pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def memory(self) -> int:
        """Bytes of memory that the worker uses."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.worker()}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def metric(self, name: str) -> float:
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eventsvc", "admin", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=600, check=False)

    def stop(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def service(tmp_path: Path, database: str, elasticsearch_url: str, index_prefix: str) -> Iterator[Service]:
    service = Service(tmp_path, database, elasticsearch_url, index_prefix)
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """For a test that brings its own servers."""
    started: list[Service] = []

    def start(database: str, elasticsearch: str, prefix: str) -> Service:
        started.append(Service(tmp_path, database, elasticsearch, prefix))
        return started[-1]

    yield start
    for service in started:
        service.stop()
