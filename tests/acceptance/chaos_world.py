"""The servers and processes that chaos.py breaks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import urllib3
from psycopg2.extensions import make_dsn

from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.server import Server, free_port, wait_until_ready
from eventsvc.errors import EventsvcError
from eventsvc.log import schema
from eventsvc.log.connection import connect, translate_errors
from eventsvc.log.progress import watermark
from eventsvc.settings import load
from tests.acceptance.chaos_traffic import PATIENCE, say, wait_for


def tighten(elasticsearch: Any) -> None:
    """Give it a bulk queue that can be filled by this machine."""
    configure = elasticsearch._configure

    def configure_tightly() -> None:
        configure()
        with (elasticsearch._folder / "config" / "elasticsearch.yml").open("a") as file:
            file.write("thread_pool.write.queue_size: 8\nindexing_pressure.memory.limit: 24mb\n")

    elasticsearch._configure = configure_tightly


class World:
    """The servers and processes of one service; what dies is started again, as a supervisor would."""

    def __init__(self, stack: ExitStack, elasticsearch_url: str) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        self.folder = folder
        self.postgres = self._server(stack, find_postgres(folder, say=say, way="local"))
        found = find_elasticsearch(folder, say=say, url=elasticsearch_url, way="local")
        if found is None:
            sys.exit("chaos needs an Elasticsearch")
        if not elasticsearch_url:
            tighten(found)
        self.elasticsearch, self.shared = self._server(stack, found), bool(elasticsearch_url)
        root = connect(self.postgres.url)
        with root.cursor() as cursor:
            cursor.execute("CREATE DATABASE chaos")
        root.close()
        self.port = free_port()  # now, as another process may take it before it is used
        self.settings = load(
            {},
            database_url=make_dsn(self.postgres.url, dbname="chaos"),
            elasticsearch_url=self.elasticsearch.url,
            index_prefix=f"chaos-{uuid.uuid4().hex[:8]}",
            port=self.port,
            workers=2,
        )
        self._migrate()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self._stop)
        self.revive()

    @staticmethod
    def _server(stack: ExitStack, server: Server) -> Server:
        stack.callback(server.stop)
        server.start()
        wait_until_ready(server, timeout=PATIENCE)
        return server

    def _migrate(self) -> None:
        """Give each indexer a role of its own, so that it can be told which of them leads."""
        connection = connect(self.dsn)
        schema.migrate(connection)
        with connection.cursor() as cursor:
            for name in ("indexer_a", "indexer_b"):
                cursor.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'chaos'")
        connection.close()

    @property
    def dsn(self) -> str:
        return self.settings.database_url.get_secret_value()

    def revive(self) -> None:
        """Start what does not run."""
        for server in (self.postgres, self.elasticsearch):
            if not server.alive():
                server.start()
        for name in ("serve", "indexer_a", "indexer_b"):
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.processes[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EVENTSVC_")}
        environment |= self.settings.to_environment()
        if name != "serve":
            environment["EVENTSVC_DATABASE_URL"] = make_dsn(self.dsn, user=name, password="chaos")
        command = [sys.executable, "-m", "eventsvc", "serve" if name == "serve" else "index"]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
        with suppress(Exception):
            urllib3.request(
                "DELETE", f"{self.elasticsearch.url}/{self.settings.index_prefix}-v2-{time.strftime('%Y.%m')}"
            )

    def leader(self) -> str:
        """The name of the indexer that leads."""

        def look() -> str:
            with suppress(EventsvcError), translate_errors():
                connection = connect(self.dsn)
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT usename FROM pg_stat_activity WHERE pid = %s", (watermark.find_leader(connection),)
                    )
                    rows = cursor.fetchall()
                connection.close()
                return str(rows[0][0]) if rows else ""
            return ""

        return str(wait_for(look, "nobody leads"))

    def stand_by(self) -> str:
        return "indexer_b" if self.leader() == "indexer_a" else "indexer_a"


def children(pid: int) -> list[int]:
    """All processes below one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def strike(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
