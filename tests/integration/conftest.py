"""A log with something in it, and an indexer that follows it in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from psycopg2.extras import Json

from eventsvc.admin.stores import Stores, open_stores
from eventsvc.index import client as index_client
from eventsvc.indexer.indexer import Indexer
from eventsvc.log.connection import Connection
from eventsvc.log.progress import watermark
from eventsvc.settings import Settings, load

DEADLINE = 120.0


class Log:
    """The log of a test: puts events in, by plain SQL, and waits for the index."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def insert(
        self, count: int = 1, *, message: str = "the buyer #%s", data: Any = None, at: str = "now()"
    ) -> list[int]:
        """Insert events at a time (SQL); return their seqs."""
        rows = self.fetch(
            "INSERT INTO event (id, created_at, email, environment, component, message, data)"
            f" SELECT gen_random_uuid(), date_trunc('milliseconds', ({at})::timestamptz), 'diego@chefhero.com',"
            " 'production', 'orders', replace(%s, '%%s', i::text), %s FROM generate_series(1, %s) AS i RETURNING seq",
            message,
            Json({"order_id": 123} if data is None else data),
            count,
        )
        return [seq for (seq,) in rows]

    def wait_visible(self, seq: int | None = None) -> None:
        """Wait until the watermark has reached a seq, or the last one."""
        ((last,),) = self.fetch("SELECT coalesce(max(seq), 0) FROM event")
        wait_for(lambda: watermark.read(self.connection).seq >= (seq or last))


def wait_for(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait until a condition holds; give its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)
    return value


@pytest.fixture
def log(connection: Connection) -> Log:
    return Log(connection)


@pytest.fixture
def settings(database: str, elasticsearch_url: str, index_prefix: str, index_shards: int) -> Settings:
    servers = {"database_url": database, "elasticsearch_url": elasticsearch_url}
    return load({}, **servers, index_prefix=index_prefix, index_shards=index_shards)


@pytest.fixture
def elasticsearch(settings: Settings) -> Iterator[Elasticsearch]:
    with index_client.connect(settings) as client:
        yield client


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    with open_stores(settings) as opened:
        yield opened


@contextmanager
def _run_indexer(settings: Settings) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=Indexer(settings, stop).run)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.fixture
def run_indexer(settings: Settings) -> Callable[..., Any]:
    """A context manager: an indexer runs while it is open."""
    return lambda **changes: _run_indexer(settings.model_copy(update=changes))


@pytest.fixture
def indexer(run_indexer: Callable[..., Any]) -> Iterator[threading.Thread]:
    """An indexer runs all through the test."""
    with run_indexer() as thread:
        yield thread


@pytest.fixture
def waiting() -> Callable[..., Any]:
    return wait_for
