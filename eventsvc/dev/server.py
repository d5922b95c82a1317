"""What all servers have in common, however they are run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

from eventsvc.dev.account import reach_hint
from eventsvc.errors import SetupError

_POLL = 0.05
_GIVEN_SECONDS = 20.0  # somebody else started it, long ago


class Server(Protocol):
    """A server that we run, or that somebody runs for us.

    Attributes:
        name: what users call it.
        way: how it is run, in words.
        url: where it answers; settled once it is ready, the same when it is started again.
    """

    name: str
    way: str

    @property
    def url(self) -> str:
        """Where it answers."""

    def start(self) -> None:
        """Start it, or start it again with its data; returns at once."""

    def alive(self) -> bool:
        """Whether it runs; of a server that is not ours, always true."""

    def ready(self) -> bool:
        """Whether it answers."""

    def stop(self) -> None:
        """Stop it; the data stays."""

    def last_lines(self) -> str:
        """The end of its log."""


class Given:
    """A server that somebody else runs; we know its URL."""

    way = "given by its URL"

    def __init__(self, name: str, url: str, answers: Callable[[str], bool]) -> None:
        self.name, self.url, self._answers = name, url, answers

    def start(self) -> None:
        """Nothing to do."""

    def alive(self) -> bool:
        """Always: it is not ours to judge."""
        return True

    def ready(self) -> bool:
        """Whether it answers."""
        return self._answers(self.url)

    def stop(self) -> None:
        """Nothing to do."""

    def last_lines(self) -> str:
        """Nothing: we do not know its log."""
        return ""


def wait_until_ready(server: Server, *, timeout: float, restarts: int = 3) -> None:
    """Wait until a started server answers; one that dies meanwhile is started again.

    A predecessor that is just ending may still hold the port or the data, which passes.

    Raises:
        SetupError: it did not become ready; shows the end of its log.
    """
    timeout = min(timeout, _GIVEN_SECONDS) if isinstance(server, Given) else timeout
    deadline = time.monotonic() + timeout
    while not server.ready():
        if not server.alive():
            if restarts == 0:
                log = server.last_lines()
                raise SetupError(f"{server.name} does not start; the end of its log:\n{log}{reach_hint(log)}")
            restarts -= 1
            time.sleep(1.0)
            server.start()
        if time.monotonic() > deadline:
            log = server.last_lines()
            raise SetupError(
                f"{server.name} ({server.way}) is not ready after {timeout:.0f} s"
                + (f"; the end of its log:\n{log}" if log else ": is it running, and is the URL right?")
            )
        time.sleep(_POLL)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
