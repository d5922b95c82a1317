"""Run a server as a child process. The kernel ends the child when this process ends in any way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eventsvc.dev import child
from eventsvc.dev.server import free_port

BEHIND_REQUESTS = 3
"""The niceness of the indexer and of Elasticsearch, which then get half as much processor time as an API process."""

_TAIL_BYTES = 8192
_LOG_BYTES = 20_000_000  # a longer log is renamed at the next start


class Process:
    """A program in a process group of its own, with a log file for its output.

    NOTE: start the program from the main thread. On Linux, the kernel ends the program when the *thread* that started
    the program ends.
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
        """Prepare, without a start.

        Args:
            name: the name for users.
            log: the log file, to which the output is appended.
            stop_signal: the signal that asks the program to stop.
            death_signal: the signal that the kernel sends to the program when this process is gone.
            stop_timeout: seconds until a program that does not stop is killed.
            nice: the niceness of the program.
        """
        self.name, self.log = name, log
        self._stop_signal, self._death_signal, self._stop_timeout = stop_signal, death_signal, stop_timeout
        self._nice = nice
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, uid: int | None = None
    ) -> None:
        """Start the program, without waiting for it.

        Args:
            command: the program and its arguments.
            environment: the whole environment of the program.
            folder: the working directory.
            uid: the user id; None for the current user.
        """
        self._kill_group()  # children of a program that has died may still hold the port or the data
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
        """The process id; None if the program does not run."""
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        """Tell whether the program runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until the program ends; give the exit code."""
        return self._process.wait() if self._process is not None else 0

    def stop(self) -> None:
        """Ask the program to stop, wait, and kill what is left of its process group."""
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
        """Give the end of the log since the last start."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in lines[-count:])


class LocalServer:
    """A server as a local process, on the loopback interface. The port stays the same after the server was ready."""

    way = "local process"

    def __init__(self, process: Process, answers: Callable[[str], bool], *, port: int) -> None:
        """Prepare, without a start.

        Args:
            process: the process of the server.
            answers: tells whether a server at an address is ready.
            port: the port to listen on; 0: any free port.
        """
        self.name = process.name
        self._process, self._answers = process, answers
        self._wanted_port, self._port, self._was_ready = port, port, False

    def _choose_port(self) -> None:
        if not self._was_ready:
            self._port = self._wanted_port or free_port()

    @property
    def url(self) -> str:
        """The address, which is final when the server is ready."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, or of its launcher."""
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.alive()

    def ready(self) -> bool:
        """Tell whether the server answers."""
        answered = self.alive() and self._answers(self.url)
        self._was_ready = self._was_ready or answered
        return answered

    def stop(self) -> None:
        """Stop the server."""
        self._process.stop()

    def last_lines(self) -> str:
        """Give the end of the log."""
        return self._process.last_lines()
