"""The common interface of servers: local processes, containers, and servers with a known URL."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

from eventsvc.dev.account import reach_hint
from eventsvc.dev.watch import Asked
from eventsvc.errors import SetupError

_POLL = 0.05
_GIVEN_SECONDS = 20.0  # a server of somebody else has been running for a long time


class Server(Asked, Protocol):
    """A server that we run, or that somebody else runs. After a stop, the data stays for the next start.

    Attributes:
        way: a description of how the server runs.
        url: the address. The address is final when the server is ready, and stays the same after another start.
    """

    way: str

    @property
    def url(self) -> str:
        """The address."""


class Given:
    """A server that somebody else runs, and whose URL the settings name."""

    way = "given by its URL"

    def __init__(self, name: str, url: str, answers: Callable[[str], bool]) -> None:
        self.name, self.url, self._answers = name, url, answers

    def start(self) -> None:
        """Do nothing, because somebody else runs the server."""

    def alive(self) -> bool:
        """Give True, because we do not see the process."""
        return True

    def ready(self) -> bool:
        """Tell whether the server answers."""
        return self._answers(self.url)

    def stop(self) -> None:
        """Do nothing, because somebody else runs the server."""

    def last_lines(self) -> str:
        """Give "", because we do not know the log."""
        return ""


def wait_until_ready(server: Server, *, timeout: float, restarts: int = 3) -> None:
    """Wait until a started server answers. Start a server that ends meanwhile again, at most ``restarts`` times.

    A predecessor that is about to end may still hold the port or the data.

    Raises:
        SetupError: the server did not become ready. The text shows the end of the log.
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
    """Find a port that no process uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
