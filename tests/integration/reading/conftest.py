"""A log with something in it, an index that follows it on demand, and searches over both."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from falcon import testing
from psycopg2.extras import execute_values

from eventsvc.app import create_app
from eventsvc.index.client import connect_async
from eventsvc.index.reader import IndexReader
from eventsvc.indexer.indexer import Indexer
from eventsvc.log.connection import Connection, Pool, connect
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PAGE_BYTES, PageRequest
from eventsvc.query.parse import parse
from eventsvc.search.both_stores import BothStores
from eventsvc.search.search import Compiled, Page, Search, compile_query
from eventsvc.search.stats import Stats
from eventsvc.settings import Settings, load

T = TypeVar("T")

CACHE = 32 * 1024 * 1024


def compiled(text: str, *, tz: str = "UTC") -> Compiled:
    return compile_query(parse(text, now=time.time_ns() // 1_000_000, tz=tz) if text else None)


@dataclass
class World:
    """One database, one index prefix, and an event loop to read them in."""

    settings: Settings
    connection: Connection
    runner: asyncio.Runner
    opened: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)

    @staticmethod
    def compiled(text: str, **options: str) -> Compiled:
        return compiled(text, **options)

    @staticmethod
    def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
        wait_until(condition, seconds)

    def proxy_to_elasticsearch(self) -> Proxy:
        """A way to Elasticsearch that can be made to hang."""
        parts = urlsplit(self.settings.elasticsearch_url)
        proxy = Proxy(parts.hostname or "", parts.port or 0)
        self.proxies.append(proxy)
        return proxy

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def pool(self, dsn: str = "", **options: Any) -> Pool:
        options = {"size": 4, "statement_timeout": 20.0} | options
        pool = Pool(dsn or self.settings.database_url.get_secret_value(), **options)

        async def close() -> None:
            await asyncio.to_thread(pool.close)

        self.opened.append(close)
        return pool

    def reader(self, dsn: str = "", **options: Any) -> Reader:
        return Reader(self.pool(dsn, **options))

    def both_stores(
        self,
        reader: Reader | None = None,
        *,
        cache: int = 0,
        elasticsearch: str = "",
        timeout: float = 60.0,
        index: bool = True,
    ) -> BothStores:
        settings = self.settings
        if elasticsearch:
            settings = settings.model_copy(update={"elasticsearch_url": elasticsearch})
        client = connect_async(settings)
        self.opened.append(client.close)
        index_reader = IndexReader(client, timeout) if index else None
        stores = BothStores(index_reader, reader or self.reader(), alias=self.settings.index_prefix, cache_size=cache)
        self.opened.append(stores.close)
        return stores

    def search(self, reader: Reader | None = None, **options: Any) -> Search:
        reader = reader or self.reader()
        page_bytes = options.pop("page_bytes", PAGE_BYTES)
        return Search(reader, self.both_stores(reader, **options), page_bytes=page_bytes)

    def stats(self, **options: Any) -> Stats:
        reader = self.reader()
        return Stats(reader, self.both_stores(reader, **options))

    def find(self, search: Search, text: str = "", limit: int = 1000, **options: Any) -> Page:
        strong = options.pop("strong", True)
        return self.run(search.find(compiled(text), PageRequest(limit, **options), strong=strong))

    def store(self, *messages: str, at: int | None = None, occurred: int | None = None, **columns: str) -> list[int]:
        """Store events; ``at`` is their time in ms, now by default; ``occurred`` when they happened, in ns."""
        values = {"email": "a@b.c", "environment": "test", "component": "orders", "data": "{}"} | columns
        moment = None if at is None else datetime.fromtimestamp(at / 1000, UTC)
        with self.connection.cursor() as cursor:
            found = execute_values(
                cursor,
                "INSERT INTO event (id, created_at, occurred_at, email, environment, component, message, data)"
                " VALUES %s RETURNING seq",
                [
                    (
                        *(moment, occurred, values["email"], values["environment"], values["component"]),
                        *(m, values["data"]),
                    )
                    for m in messages
                ],
                template="(gen_random_uuid(), coalesce(%s, date_trunc('milliseconds', clock_timestamp())),"
                " %s, %s, %s, %s, %s, %s)",
                fetch=True,
            )
        return [seq for (seq,) in found]

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def watermark(self) -> int:
        return int(self.execute("SELECT seq FROM watermark")[0][0])

    @contextmanager
    def indexing(self) -> Iterator[None]:
        """Run an indexer in a thread while inside."""
        stop = threading.Event()
        thread = threading.Thread(target=Indexer(self.settings, stop).run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)

    def index_all(self) -> None:
        """Bring the index up to the end of the log, and stop."""
        (end,) = self.execute("SELECT coalesce(max(seq), 0) FROM event")[0]
        with self.indexing():
            wait_until(lambda: self.watermark() >= end)

    def close(self) -> None:
        for close in reversed(self.opened):
            self.run(close())
        for proxy in self.proxies:
            proxy.close()
        self.runner.close()


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def world(database: str, elasticsearch_url: str, index_prefix: str, index_shards: int) -> Iterator[World]:
    servers = {"database_url": database, "elasticsearch_url": elasticsearch_url}
    settings = load({}, **servers, index_prefix=index_prefix, index_shards=index_shards)
    connection = connect(database)
    world = World(settings, connection, asyncio.Runner())
    try:
        yield world
    finally:
        world.close()
        connection.close()


@pytest.fixture
def api(world: Any) -> Iterator[Any]:
    """The app in our event loop: ``api("GET", "/event", …)``. An Elasticsearch that is slow is waited for."""
    conductor = testing.ASGIConductor(create_app(world.settings.model_copy(update={"elasticsearch_timeout": 60.0})))
    world.run(conductor.__aenter__())

    def call(method: str, path: str, headers: Any = None, body: str = "", **parameters: Any) -> Any:
        return world.run(
            conductor.simulate_request(
                method, path, params=parameters or None, headers=headers, body=body or None, params_csv=False
            )
        )

    yield call
    world.run(conductor.__aexit__(None, None, None))


class Proxy:
    """A way to a server that can be cut, or made to hang, while connections are open."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.hanging = threading.Event()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while self.hanging.is_set():
                    time.sleep(0.02)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hanging.clear()
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
