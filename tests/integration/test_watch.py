"""Watching a server of our own: a real process that hangs while it lives."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from eventsvc.dev.process import Process
from eventsvc.dev.server import free_port, wait_until_ready
from eventsvc.dev.watch import watch

_PATIENCE = 120.0  # seconds


class WebServer:
    """A server that is started, asked and stopped as Elasticsearch is, and is there at once."""

    name = "the web server"
    way = "local process"

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.process = Process(self.name, log=folder / "log", stop_timeout=1.0)
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "http.server", str(self._port), "--bind", "127.0.0.1"]
        self.process.start(command, environment=os.environ, folder=self._folder)

    def alive(self) -> bool:
        return self.process.alive()

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.process.stop()

    def last_lines(self) -> str:
        return self.process.last_lines()


class Seen(Exception):
    """Ends the watch."""


@pytest.mark.timeout(int(_PATIENCE))
def test_a_server_that_hangs_while_its_process_lives_is_started_again(tmp_path: Path) -> None:
    server = WebServer(tmp_path)
    server.start()
    try:
        wait_until_ready(server, timeout=_PATIENCE)
        hung = server.process.pid
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if "starting it again" in line:
                raise Seen

        class Hanging:
            """Stops the process once the watch has seen it answer."""

            name = "the test"

            def start(self) -> None: ...

            def alive(self) -> bool:
                if server.ready():
                    assert hung is not None
                    os.kill(hung, signal.SIGSTOP)
                return True

            def last_lines(self) -> str:
                return ""

        with pytest.raises(Seen):
            watch([server, Hanging()], [], say, asked=[server], silence=2.0)
        assert "no answer for 2 s" in said[0]
        assert server.process.pid != hung
        server.start()
        wait_until_ready(server, timeout=_PATIENCE)
    finally:
        server.stop()
