"""`eventsvc dev` and other commands as real processes."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

DEADLINE = 180.0


def _eventually(holds: Callable[[], Any], *, what: str, seconds: float = DEADLINE) -> Any:
    """Poll until ``holds`` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        if result := holds():
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pseudo_terminal(copy: Path) -> int:
    """Give a terminal of 100 columns; whatever is written there is copied into a file."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

    def read() -> None:
        with contextlib.suppress(OSError), copy.open("ab", buffering=0) as file:  # the last writer has gone
            while text := os.read(ours, 65536):
                file.write(text)
        os.close(ours)

    threading.Thread(target=read, daemon=True).start()
    return theirs


class Dev:
    """One `eventsvc dev`: starts it, reads what it says, talks to its API."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.port = folder, free_port()
        self._environment = os.environ | environment
        self._terminal = folder.parent / "terminal"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, until: str = "ready: ", on_terminal: bool = False) -> str:
        """Start it and wait for a line; returns all it has said."""
        command = [sys.executable, "-m", "eventsvc", "dev", "--port", str(self.port), "--data", str(self.folder)]
        with self._terminal.open("wb") as file:
            terminal = _pseudo_terminal(self._terminal) if on_terminal else file.fileno()
            environment = self._environment | {"TERM": "xterm"}
            process = subprocess.Popen([*command, *words], env=environment, stdout=terminal, stderr=terminal)
            self.process = process
            if on_terminal:
                os.close(terminal)
        _eventually(lambda: until in self.said() or process.poll() is not None, what=until, seconds=300)
        assert until in self.said()
        return self.said()

    def said(self) -> str:
        return self._terminal.read_bytes().decode()

    def stop(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def pids(self, *words: str) -> list[int]:
        """Processes of this folder or its API whose command line has all the words."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if all(word in line for word in words) and self._ours(entry, line):
                    found.append(int(entry.name))
        return sorted(found)

    def _ours(self, entry: Path, line: str) -> bool:
        if str(self.folder) in line:
            return True
        variables = (entry / "environ").read_bytes().split(b"\0")
        return f"EVENTSVC_PORT={self.port}".encode() in variables

    def kill(self, *words: str) -> None:
        """Kill -9 the first process with these words, and wait until another has taken its place."""
        (first, *_) = _eventually(lambda: self.pids(*words), what=f"a process with {words}")
        os.kill(first, signal.SIGKILL)
        _eventually(lambda: set(self.pids(*words)) - {first}, what=f"another process with {words}")

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, dict[str, str], Any]:
        """One request: status, headers (lower-case names), decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
            payload = None if body is None else json.dumps(body)
            connection.request(method, target, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(text) if text else None
        finally:
            connection.close()

    def all_events(self, **query: str) -> list[dict[str, Any]]:
        """Every page of GET /event, newest first."""
        events: list[dict[str, Any]] = []
        target = "/event?" + urllib.parse.urlencode({"limit": "1000"} | query)
        while target:
            status, headers, page = self.ask("GET", target)
            assert status == 200, page
            events += page
            following = re.search(r'<([^>]*)>; *rel="?next"?', headers.get("link", ""))
            parts = urllib.parse.urlsplit(following[1]) if following else None
            target = f"{parts.path}?{parts.query}" if parts else ""
        return events


class Poster:
    """Posts events one after another, and remembers the ids of those that were acknowledged."""

    def __init__(self, dev: Dev) -> None:
        self._dev, self._stopping = dev, threading.Event()
        self.acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        event = {"email": "a@example.com", "environment": "test", "component": "poster", "message": "posted meanwhile"}
        while not self._stopping.wait(0.02):  # what is started again meanwhile needs the processor
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, answer = self._dev.ask("POST", "/event", event | {"data": {"n": len(self.acknowledged)}})
                if status == 201:
                    self.acknowledged.append(answer["id"])

    def wait_for_more(self, count: int = 10) -> None:
        enough = len(self.acknowledged) + count
        _eventually(lambda: len(self.acknowledged) >= enough, what="events being acknowledged again")


@pytest.fixture
def make_dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """A factory of `eventsvc dev` with an environment; each has a folder with a space in its name."""
    made: list[Dev] = []

    def make(**environment: str) -> Dev:
        parent = tmp_path / f"folder {len(made)}"
        parent.mkdir()
        made.append(Dev(parent / "the data", environment))
        return made[-1]

    yield make
    for dev in made:
        if dev.process is not None and dev.process.poll() is None:
            dev.stop(signal.SIGTERM)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Poll until a function gives something true: ``eventually(holds, what="…", seconds=60)``."""
    return _eventually


@pytest.fixture
def make_poster() -> Callable[[Dev], Poster]:
    return Poster
