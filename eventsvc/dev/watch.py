"""Watch servers and other child processes: start an ended process again, and show warnings of log files."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from eventsvc.errors import SetupError

Say = Callable[[str], None]

_POLL = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_STEADY_SECONDS = 30.0  # after this time, the pause before a restart is short again
_QUIET_SECONDS = 60.0
_ASK_EVERY = 5.0  # seconds
_SILENCE = 60.0  # seconds without an answer after which a server is stopped
_MOST_KINDS = 10
_FIGURES = re.compile(r"[0-9]+")
_WORRYING = re.compile(r'\[(warning|error|critical) *\]|"log\.level": ?"(warning|error|critical)"', re.IGNORECASE)


class Watched(Protocol):
    """A server or another child process.

    Attributes:
        name: the name for users.
    """

    name: str

    def start(self) -> None:
        """Start the process, or start it again; do not wait."""

    def alive(self) -> bool:
        """Tell whether the process runs."""

    def last_lines(self) -> str:
        """Give the end of the log."""


class Asked(Watched, Protocol):
    """A process that can also be asked whether it answers."""

    def ready(self) -> bool:
        """Tell whether the server answers."""

    def stop(self) -> None:
        """Stop the server."""


class LogTail:
    """The new warnings and errors of a log file, a few at a time."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._position = path.stat().st_size if path.exists() else 0
        self._shown: dict[str, float] = {}

    def new_lines(self) -> list[str]:
        """Give the new lines, without lines that differ only in their numbers from a line of the last minute."""
        now = time.monotonic()
        self._shown = {kind: when for kind, when in self._shown.items() if now - when < _QUIET_SECONDS}
        lines = []
        for line in self._read():
            kind = _FIGURES.sub("", line)
            if _WORRYING.search(line) and kind not in self._shown and len(self._shown) < _MOST_KINDS:
                self._shown[kind] = now
                lines.append(f"{self._name}: {line}")
        return lines

    def _read(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._position:  # the log was renamed, and a new log began
                    self._position = 0
                file.seek(self._position)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


class _Unit:
    """A watched process, and the pause before its next start."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._pause, self._started = _FIRST_PAUSE, time.monotonic()
        self._due: float | None = None

    def look(self, say: Say) -> None:
        """Start the process again after it has ended. Each failure doubles the pause."""
        now = time.monotonic()
        if self._due is None:
            if self._watched.alive():
                return
            if now - self._started > _STEADY_SECONDS:
                self._pause = _FIRST_PAUSE
            say(f"{self._watched.name} ended; starting it again")
            if self._pause > _FIRST_PAUSE:
                say(self._watched.last_lines())
            self._due = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        elif now >= self._due:
            self._due, self._started = None, now
            try:
                self._watched.start()
            except (SetupError, OSError) as exc:
                say(f"{self._watched.name} does not start: {exc}")


class _Health:
    """Stops a server that runs but no longer answers, as after a full disk. The server is then started again."""

    def __init__(self, server: Asked, silence: float) -> None:
        self._server, self._silence = server, silence
        self._answered: float | None = None  # the time of the last answer since the start
        self._asked = 0.0

    def look(self, say: Say) -> None:
        if time.monotonic() - self._asked < min(_ASK_EVERY, self._silence / 2):
            return
        self._asked = time.monotonic()
        if not self._server.alive():
            self._answered = None
        elif self._server.ready():
            self._answered = time.monotonic()
        elif self._answered is not None and time.monotonic() - self._answered > self._silence:
            say(f"{self._server.name} has given no answer for {self._silence:.0f} s; stopping it")
            self._answered = None
            self._server.stop()


def watch(
    watched: Sequence[Watched],
    logs: Sequence[LogTail],
    say: Say,
    *,
    asked: Sequence[Asked] = (),
    silence: float = _SILENCE,
    each_round: Callable[[], None] = lambda: None,
) -> None:
    """Watch until an exception, such as KeyboardInterrupt.

    Args:
        watched: processes that are started again when they end.
        logs: log files whose warnings are shown.
        say: shows one line to the user.
        asked: servers of ``watched`` that are stopped, and so started again, when they do not answer.
        silence: the number of seconds without an answer after which such a server is stopped.
        each_round: called several times a second.
    """
    units = [_Unit(one) for one in watched]
    healths = [_Health(one, silence) for one in asked]
    while True:
        for health in healths:
            health.look(say)
        for unit in units:
            unit.look(say)
        for log in logs:
            for line in log.new_lines():
                say(line)
        each_round()
        time.sleep(_POLL)
