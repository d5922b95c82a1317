"""A service as a process of its own, and commands run beside it."""

from __future__ import annotations

import os
import pty
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from eventsvc.log.connection import connect
from eventsvc.settings import Settings, load

PROGRAM = [sys.executable, "-m", "eventsvc"]


class Service:
    """`eventsvc serve`, which can be stopped and started again on the same port."""

    def __init__(self, settings: Settings) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._dsn = settings.database_url.get_secret_value()
        self._environment = os.environ | {
            "EVENTSVC_DATABASE_URL": self._dsn,
            "EVENTSVC_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "EVENTSVC_INDEX_PREFIX": settings.index_prefix,
            "EVENTSVC_PORT": str(self.port),
            "EVENTSVC_WORKERS": "1",
            "EVENTSVC_LOG_LEVEL": "error",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.process is None:
            self.process = subprocess.Popen([*PROGRAM, "serve"], env=self._environment)
        wait_for(self.answers, "the service starts")

    def empty(self) -> None:
        """Empty the log. The service may still store what a command sent before it was killed."""
        time.sleep(0.1)
        with closing(connect(self._dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE event, idempotency_key")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def module_service(
    new_database: Callable[[], AbstractContextManager[str]], elasticsearch_url: str
) -> Iterator[Service]:
    with new_database() as dsn:
        prefix = f"test-{secrets.token_hex(4)}"  # no indexer runs, so no index is made
        service = Service(load({}, database_url=dsn, elasticsearch_url=elasticsearch_url, index_prefix=prefix))
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture
def service(module_service: Service) -> Service:
    """The module's service, with an empty log. A test may stop it."""
    module_service.start()
    module_service.empty()
    return module_service


@pytest.fixture
def command(service: Service, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command through pipes; gives the finished process. Half of a surrogate pair stands for a byte."""
    environment = os.environ | {"EVENTSVC_URL": service.url, "XDG_STATE_HOME": str(tmp_path / "state")}
    form: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
    return lambda *words, text="": subprocess.run(
        [*PROGRAM, *words], env=environment, input=text, capture_output=True, check=False, timeout=120, **form
    )


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command that goes on; ended with the test."""
    environment = os.environ | {"EVENTSVC_URL": service.url, "XDG_STATE_HOME": str(tmp_path / "state")}
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def terminal(service: Service) -> Callable[..., str]:
    """Runs a command on a pseudo-terminal; gives all that it has written there."""

    def run(*words: str) -> str:
        ours, theirs = pty.openpty()
        environment = os.environ | {"EVENTSVC_URL": service.url, "TERM": "xterm", "PAGER": "cat"}
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen([*PROGRAM, *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        written = b""
        while process.poll() is None or select.select([ours], [], [], 0.2)[0]:
            try:
                written += os.read(ours, 65536) if select.select([ours], [], [], 0.2)[0] else b""
            except OSError:
                break
        os.close(ours)
        process.wait(30)
        return written.decode()

    return run
