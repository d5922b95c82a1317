"""Watch what was started: start again what dies, and pass on warnings from log files."""

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
_STEADY_SECONDS = 30.0  # who ran that long has earned a quick restart
_QUIET_SECONDS = 60.0
_ASK_EVERY = 5.0  # seconds
_SILENCE = 60.0  # seconds in which a server that has answered before may give no answer
_MOST_KINDS = 10
_FIGURES = re.compile(r"[0-9]+")
_WORRYING = re.compile(r'\[(warning|error|critical) *\]|"log\.level": ?"(warning|error|critical)"', re.IGNORECASE)


class Watched(Protocol):
    """A server or another child process."""

    name: str

    def start(self) -> None:
        """Start it again."""

    def alive(self) -> bool:
        """Whether it runs."""

    def last_lines(self) -> str:
        """The end of its log."""


class Asked(Watched, Protocol):
    """A server of ours that can also be asked."""

    def ready(self) -> bool:
        """Whether it answers."""

    def stop(self) -> None:
        """Stop it."""


class LogTail:
    """The warnings and errors that a log file gets from now on, a few at a time."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._position = path.stat().st_size if path.exists() else 0
        self._shown: dict[str, float] = {}

    def new_lines(self) -> list[str]:
        """What is worth showing; what differs only in its figures from a line of the last minute is not."""
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
                if self._path.stat().st_size < self._position:  # put aside, a new one begun
                    self._position = 0
                file.seek(self._position)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


class _Unit:
    """One watched thing, and how long to wait before it is started again."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._pause, self._started = _FIRST_PAUSE, time.monotonic()
        self._due: float | None = None

    def look(self, say: Say) -> None:
        """Start it again when it is gone and the time has come; each failure doubles the wait."""
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
    """Stops a server that lives and answers no more, as after a full disk; it is then started again."""

    def __init__(self, server: Asked, silence: float) -> None:
        self._server, self._silence = server, silence
        self._answered: float | None = None  # when it last did, since it was started
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
    """Watch for ever: until an exception, such as KeyboardInterrupt.

    Args:
        watched: started again when their processes end.
        logs: their warnings are shown.
        say: shows one line to the user.
        asked: those of ``watched`` that are stopped, and so started again, when they do not answer.
        silence: for how many seconds they may not.
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
