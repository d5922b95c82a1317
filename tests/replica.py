"""A streaming replica of a local PostgreSQL, for tests and benches."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from psycopg2.extensions import make_dsn

from eventsvc.dev.account import give, server_uid
from eventsvc.dev.postgres import MAX_CONNECTIONS, LocalPostgres
from eventsvc.dev.process import Process
from eventsvc.dev.server import free_port


class Replica:
    """A copy of the primary, made by pg_basebackup, and its server."""

    def __init__(self, primary: LocalPostgres, folder: Path, programs: Path) -> None:
        self._primary, self._folder, self._programs = primary, folder, programs
        self._port = 0
        log = folder.with_suffix(".log")
        self._process = Process("replica", log=log, stop_signal=signal.SIGINT, stop_timeout=20)

    @property
    def url(self) -> str:
        """The address, once it has been started."""
        return make_dsn(self._primary.url, port=str(self._port))

    def copy(self) -> None:
        """Copy the primary, which must run."""
        self._folder.mkdir()
        uid = server_uid()
        give(self._folder, uid)
        backup = Process("pg_basebackup", log=self._folder.with_suffix(".backup.log"))
        command = [str(self._programs / "pg_basebackup"), "-D", str(self._folder)]
        command += ["-R", "-X", "stream", "-c", "fast", "-N", "-d", make_dsn(self._primary.url)]
        backup.start(command, environment=dict(os.environ), folder=self._folder, uid=uid)
        assert backup.wait() == 0, backup.last_lines()
        self._folder.chmod(0o700)

    def start(self) -> None:
        self._port = self._port or free_port()
        # A replica must allow as many connections as its primary.
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options["max_connections"] = str(MAX_CONNECTIONS)
        command = [str(self._programs / "postgres"), "-D", str(self._folder), "-p", str(self._port)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        environment = dict(os.environ) | {"LC_ALL": "C"}
        self._process.start(command, environment=environment, folder=self._folder, uid=server_uid())

    def kill(self) -> None:
        pid = self._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        self._process.wait()

    def stop(self) -> None:
        self._process.stop()
