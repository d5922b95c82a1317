"""A server program as a child process that dies with us, in whatever way we die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from eventsvc.dev import child

BEHIND_REQUESTS = 3
"""Niceness of what may wait while requests are answered: half of their weight, so it never starves."""

_TAIL_BYTES = 8192
_LOG_BYTES = 20_000_000  # a longer log is put aside at the next start


class Process:
    """One program, its output appended to a log file, in a process group of its own.

    NOTE: start it from the main thread: on Linux the kernel ends it when the *thread* that started it ends.
    """

    def __init__(
        self,
        name: str,
        *,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGTERM,
        stop_timeout: float = 15.0,
        nice: int = 0,
    ) -> None:
        """Prepare, start nothing.

        Args:
            name: what users call it.
            log: where its output goes.
            stop_signal: asks it to stop.
            death_signal: what the kernel sends it when we are gone.
            stop_timeout: seconds until it is killed.
            nice: how far it stands back when others want the processor.
        """
        self.name, self.log = name, log
        self._stop_signal, self._death_signal, self._stop_timeout = stop_signal, death_signal, stop_timeout
        self._nice = nice
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, uid: int | None = None
    ) -> None:
        """Start it; returns at once.

        Args:
            command: program and arguments.
            environment: all of its environment.
            folder: where it runs.
            uid: whom it runs as; None: as we do.
        """
        self._kill_group()  # orphans of a program that died would still hold its port or its data
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        helper = [sys.executable, "-I", "-S", child.__file__]
        facts = map(str, (os.getpid(), int(self._death_signal), -1 if uid is None else uid, self._nice))
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603  (the commands are ours)
                [*helper, *facts, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until it ends by itself; returns its exit code."""
        return self._process.wait() if self._process is not None else 0

    def stop(self) -> None:
        """Ask it to stop, wait, kill it if need be; with all that it started."""
        if self._process is None:
            return
        if self.alive():
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(self._stop_timeout)
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._process.wait()
        self._kill_group()
        self._process = None

    def _kill_group(self) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return

    def last_lines(self, count: int = 15) -> str:
        """The end of what it wrote since it was last started."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in lines[-count:])
