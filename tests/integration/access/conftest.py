"""`eventsvc serve` with keys: a process with its own log and index, and a way to ask it with one key or another."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eventsvc.access import store
from eventsvc.access.store import Wanted
from eventsvc.indexer.indexer import Indexer
from eventsvc.log.connection import connect
from eventsvc.settings import load

Headers = dict[str, str] | None


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.02) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(pause)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Service:
    """One `eventsvc serve`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = folder / f"serve-{self.port}.log"
        self._environment = os.environ | {"EVENTSVC_PORT": str(self.port), "EVENTSVC_WORKERS": "1"} | environment

    def start(self) -> Service:
        self.process = self.launch()
        wait_until(lambda: self.process.poll() is not None or self._answers())
        assert self.process.poll() is None, self.log.read_text()
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", "eventsvc", "serve"], env=self._environment, stderr=log)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def _answers(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/healthz").status == 200
        return False

    def knows(self, key: str) -> bool:
        """Tell whether the key is good, and somebody without one is refused."""
        statuses = [self.ask("GET", "/event/none", key=one).status for one in ("", key)]
        return statuses[0] == 401 and statuses[1] not in {401, 429}

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str = "", headers: Headers = None, **query: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, self._target(path, query), *self._rest(body, key, headers))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str, *, key: str = "", headers: Headers = None, **query: str) -> Iterator[Any]:
        """The answer of a GET that does not end by itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", self._target(path, query), *self._rest(None, key, headers))
            yield connection.getresponse()
        finally:
            connection.close()

    @staticmethod
    def _target(path: str, query: dict[str, str]) -> str:
        return f"{path}?{urllib.parse.urlencode(query)}" if query else path

    @staticmethod
    def _rest(body: Any, key: str, headers: Headers) -> tuple[Any, dict[str, str]]:
        sent = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return (body if body is None or isinstance(body, bytes) else json.dumps(body)), sent | (headers or {})


class World:
    """A log, an index, and a service in front of both."""

    def __init__(self, dsn: str, elasticsearch: str, prefix: str, folder: Path, audit: str) -> None:
        self.dsn, self.connection = dsn, connect(dsn)
        self._elasticsearch, self._prefix, self._folder = elasticsearch, prefix, folder
        self._audit, self._made = audit, list[Service]()
        self.service = self.serve()

    def serve(self, **environment: str) -> Service:
        settings = {
            "EVENTSVC_DATABASE_URL": self.dsn,
            "EVENTSVC_ELASTICSEARCH_URL": self._elasticsearch,
            "EVENTSVC_INDEX_PREFIX": self._prefix,
            "EVENTSVC_AUDIT": self._audit,
        }
        self._made.append(Service(self._folder, **settings | environment))
        return self._made[-1].start()

    def forget(self, service: Service) -> None:
        """Leave a service alone that a test has stopped."""
        self._made.remove(service)

    @contextmanager
    def serving(self, **environment: str) -> Iterator[Service]:
        """Serve once more, only while inside: every service that runs has to learn of every new key."""
        service = self.serve(**environment)
        try:
            yield service
        finally:
            service.stop()
            self.forget(service)

    def make_key(self, *rights: str, where: str = "", **options: Any) -> str:
        """Make a key that this world's services know."""
        made = store.create(self.connection, Wanted(f"k{secrets.token_hex(6)}", rights, where, **options))
        # A service forgives a wrong key every 0.6 seconds: whoever asks more often runs out of tries.
        wait_until(lambda: all(one.knows(made.text) for one in self._made), pause=0.7)
        return made.text

    def index_all(self) -> None:
        stop = threading.Event()
        settings = load({}, database_url=self.dsn, elasticsearch_url=self._elasticsearch, index_prefix=self._prefix)
        thread = threading.Thread(target=Indexer(settings, stop).run)
        thread.start()
        try:
            wait_until(lambda: self.fetch("SELECT seq >= (SELECT max(event.seq) FROM event) FROM watermark")[0][0])
        finally:
            stop.set()
            thread.join(60)

    def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for service in self._made:
            service.stop()
        self.connection.close()


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest,
    new_database: Callable[[], AbstractContextManager[str]],
    elasticsearch_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Of the whole module: keys are never taken from under another test. The module's AUDIT is the setting."""
    prefix = f"test-{secrets.token_hex(4)}"
    folder, audit = tmp_path_factory.mktemp("access"), getattr(request.module, "AUDIT", "off")
    with new_database() as dsn:
        world = World(dsn, elasticsearch_url, prefix, folder, audit)
        try:
            yield world
        finally:
            world.close()
            _drop_indexes(elasticsearch_url, prefix)


def _drop_indexes(url: str, prefix: str) -> None:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request("GET", f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all")
    found = json.loads(connection.getresponse().read())
    if found:
        connection.request("DELETE", "/" + ",".join(one["index"] for one in found))
        connection.getresponse().read()
    connection.close()


@pytest.fixture
def make_bare() -> Callable[..., Service]:
    """A factory of services that are yet to be started."""
    return Service


@pytest.fixture
def unused_port() -> int:
    return free_port()
