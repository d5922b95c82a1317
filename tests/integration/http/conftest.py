"""The service as a process, and raw sockets to talk to it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ingest import conftest as ingest

DEADLINE = 30.0

module_database, running, service = ingest.module_database, ingest.running, ingest.service
make_service, until = ingest.make_service, ingest.until


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    line: bytes
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self
        said: dict[str, Any] = json.loads(self.body)
        return said


class Wire:
    """A socket to the service that reads whole answers."""

    def __init__(self, port: int, buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", port))
        self._come = b""

    def send(self, data: bytes) -> Wire:
        self.socket.sendall(data)
        return self

    def close(self) -> None:
        self.socket.close()

    def read_until(self, mark: bytes) -> bytes:
        """Give what comes up to and with the mark."""
        while mark not in self._come:
            part = self.socket.recv(65536)
            assert part, f"the connection ended before {mark!r}: {self._come[-300:]!r}"
            self._come += part
        piece, _, self._come = self._come.partition(mark)
        return piece + mark

    def is_closed(self) -> bool:
        """Whether the service ends the connection, and says nothing more before that."""
        try:
            return self._come == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one answer."""
        head = self.read_until(b"\r\n\r\n")
        line, *fields = head.strip().split(b"\r\n")
        headers = {name.decode().lower(): text.decode() for name, _, text in (f.partition(b": ") for f in fields)}
        status = int(line.split(b" ")[1])
        body = b"" if head_only or status == 100 else self._body(headers)
        return Answer(status, line, headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n"), 16):
                body += self._take(size)
                self._take(2)
            self._take(2)
            return body
        return self._take(int(headers["content-length"]))

    def _take(self, size: int) -> bytes:
        while len(self._come) < size:
            part = self.socket.recv(65536)
            assert part, "the connection ended within a body"
            self._come += part
        piece, self._come = self._come[:size], self._come[size:]
        return piece


@pytest.fixture
def connect() -> Iterator[Callable[..., Wire]]:
    """Open wires to a port; they are closed after the test. ``buffer`` is how many bytes the kernel takes for one."""
    wires: list[Wire] = []

    def open_wire(port: int, buffer: int = 0) -> Wire:
        wires.append(Wire(port, buffer))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(service: Any, connect: Callable[[int], Wire]) -> Wire:
    """A wire to the module's service."""
    return connect(service.port)


@pytest.fixture(scope="module")
def make_module_service() -> Iterator[Callable[..., Any]]:
    """``make_service`` for the whole module."""
    made: list[Any] = []

    def make(dsn: str, **environment: str) -> Any:
        made.append(ingest.Service(dsn, **environment))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[str], Any]]:
    """Start a service that may open 256 files and cannot ask for more."""
    made: list[Any] = []

    def start(dsn: str) -> Any:
        made.append(ingest.Service(dsn))
        command = ["prlimit", "--nofile=256:256", sys.executable, "-m", "eventsvc", "serve"]
        made[-1].process = subprocess.Popen(command, env=made[-1]._environment)
        ingest.wait_until(made[-1]._answers)
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def memory() -> Callable[[Any], int]:
    """Give the bytes of memory that the worker of a service uses now."""

    def read(service: Any) -> int:
        text = Path(f"/proc/{service.worker_pid()}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024

    return read


@pytest.fixture
def send_for() -> Callable[..., int]:
    """Send pieces until the other side takes no more for a moment, or the seconds are over; give the bytes taken."""

    def send(wire: Wire, piece: bytes, *, most: int, seconds: float = DEADLINE) -> int:
        wire.socket.settimeout(1.0)
        sent, deadline = 0, time.monotonic() + seconds
        try:
            while sent < most and time.monotonic() < deadline:
                sent += wire.socket.send(piece)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            wire.socket.settimeout(DEADLINE)
        return sent

    return send
