"""The service as a process with a database of its own, and the ways to break the line between them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from eventsvc.log.connection import connect


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return result


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """`eventsvc serve` with one worker."""

    def __init__(self, dsn: str, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.dsn = dsn
        self._environment = os.environ | {
            "EVENTSVC_DATABASE_URL": dsn,
            "EVENTSVC_PORT": str(self.port),
            "EVENTSVC_WORKERS": "1",
            "EVENTSVC_LOG_LEVEL": "error",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Service:
        self.process = subprocess.Popen([sys.executable, "-m", "eventsvc", "serve"], env=self._environment)
        wait_until(self._answers)
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                # Of a killed gunicorn the workers notice within a second that their parent is gone.
                self.process.send_signal(number)
            self.process.wait(30)
            self.process = None
            wait_until(lambda: not self._answers())

    def _answers(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/healthz").status == 200
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def worker_pid(self) -> int:
        assert self.process is not None
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[0])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, body: Any, query: str = "", **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
        return self.ask("POST", f"/event{query}", raw, **({"Content_Type": "application/json"} | headers))

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM event")[0][0])


@pytest.fixture(scope="module")
def module_database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with new_database() as dsn:
        yield dsn


@pytest.fixture(scope="module")
def running(module_database: str) -> Iterator[Service]:
    service = Service(module_database).start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def service(running: Service) -> Service:
    """The module's service, with an empty log."""
    running.rows("TRUNCATE event, idempotency_key")
    return running


@pytest.fixture
def make_service() -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(dsn: str, **environment: str) -> Service:
        made.append(Service(dsn, **environment))
        return made[-1].start()

    yield make
    for service in made:
        service.stop()


class Line:
    """A way to PostgreSQL that can be cut or made to hang, at a chosen statement if need be."""

    def __init__(self, dsn: str) -> None:
        parts = psycopg2.extensions.parse_dsn(dsn) if "://" not in dsn else None
        if parts is None:
            url = urlsplit(dsn)
            parts = {"host": url.hostname or "127.0.0.1", "port": str(url.port or 5432)}
        self._target = (parts["host"], int(parts.get("port", 5432)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_dsn(dsn, host="127.0.0.1", port=self._listener.getsockname()[1])
        self.cut_at = b""  # a piece of a statement: the connection is cut once when it passes; it arrives
        self.swallow_at = b""  # the same, but the statement never arrives
        self.hanging = threading.Event()
        self.refusing = False
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._open += [client, server]
            self._start_pump(client, server, inward=True)
            self._start_pump(server, client, inward=False)

    def _start_pump(self, source: socket.socket, target: socket.socket, *, inward: bool) -> None:
        threading.Thread(target=self._pump, args=(source, target), kwargs={"inward": inward}, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, *, inward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.hanging.is_set():
                    continue
                if inward and self.swallow_at and self.swallow_at in data:
                    self.swallow_at = b""
                    break
                cutting = inward and self.cut_at and self.cut_at in data
                if cutting:
                    self.cut_at = b""
                    source.shutdown(socket.SHUT_RDWR)  # the server's answer does not come back
                target.sendall(data)
                if cutting:
                    target.recv(65536)  # the server has done it
                    break
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    made = Line(database)
    yield made
    made.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until
