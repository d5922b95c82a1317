"""Servers once a run, a database and an index prefix per test, and events to play with.

The servers are found in the same order as by ``eventsvc dev``: EVENTSVC_TEST_DATABASE_URL and
EVENTSVC_TEST_ELASTICSEARCH_URL, then containers, then local processes; EVENTSVC_TEST_SERVERS=containers|local forces
one way. A server that is missing is an error, never a skipped test.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.server import wait_until_ready
from eventsvc.event import Event
from eventsvc.log import schema
from eventsvc.log.connection import connect

# Taken out of the environment: settings refuse names they do not know, and no test may depend on the caller's own.
_OPTIONS = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("EVENTSVC_")}
_POSTGRES, _ELASTICSEARCH = "EVENTSVC_TEST_DATABASE_URL", "EVENTSVC_TEST_ELASTICSEARCH_URL"
_TEST_SERVERS, _INDEX_SHARDS = "EVENTSVC_TEST_SERVERS", "EVENTSVC_TEST_INDEX_SHARDS"
_WAY: Any = _OPTIONS.get(_TEST_SERVERS, "auto")
_SERVERS: pytest.StashKey[ExitStack] = pytest.StashKey()
_START_SECONDS = 240.0

# Servers of tests live for minutes: Java's second compiler would take half of their processor time, and gain nothing.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"

# A shell starts what runs in its background with SIGINT ignored, and every process of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LONGEST = ("acceptance", "attack", "page")
_MOST_PENDING_DROPS = 20

# The same examples in every run, so that a change is never refused for what it did not cause. `make nightly` draws
# new ones, and more of them.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("same")


def _say(line: str) -> None:
    # Past pytest's capturing: a download may take a minute.
    print(line, file=sys.__stderr__, flush=True)


@contextmanager
def _make_server_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="eventsvc-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # under root, servers run as another user
        yield Path(folder)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Where servers of this run keep their data and logs."""
    with _make_server_folder() as folder:
        yield folder


@contextmanager
def _running(server: Any) -> Iterator[str]:
    try:
        server.start()
        wait_until_ready(server, timeout=_START_SECONDS)
        yield server.url
    finally:
        server.stop()


def _find_postgres(folder: Path) -> Any:
    return find_postgres(folder, say=_say, url=_OPTIONS.get(_POSTGRES, ""), way=_WAY, lasting=False)


def _find_elasticsearch(folder: Path) -> Any:
    url = _OPTIONS.get(_ELASTICSEARCH, "")
    server = find_elasticsearch(folder, say=_say, url=url, way=_WAY, lasting=False, heap="640m")
    assert server is not None, "these tests need an Elasticsearch: Docker, or Java 21 and Maven"
    return server


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take longest, so that no process is alone with such a file at the end."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in _LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the servers once for all processes of pytest-xdist (`-n 2`), which find them in their environment."""
    if not getattr(session.config.option, "numprocesses", 0) or hasattr(session.config, "workerinput"):
        return
    servers = session.config.stash[_SERVERS] = ExitStack()
    folder = servers.enter_context(_make_server_folder())
    os.environ[_POSTGRES] = servers.enter_context(_running(_find_postgres(folder)))
    os.environ[_ELASTICSEARCH] = servers.enter_context(_running(_find_elasticsearch(folder)))
    os.environ[_TEST_SERVERS] = _WAY
    os.environ[_INDEX_SHARDS] = _OPTIONS.get(_INDEX_SHARDS, "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash.get(_SERVERS, ExitStack()).close()


@pytest.fixture(scope="session")
def postgres_url(server_folder: Path) -> Iterator[str]:
    with _running(_find_postgres(server_folder)) as url:
        yield url


@pytest.fixture(scope="session")
def elasticsearch_url(server_folder: Path) -> Iterator[str]:
    with _running(_find_elasticsearch(server_folder)) as url:
        yield url


def _execute(dsn: str, statement: str) -> None:
    connection = connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _drop_database(dsn: str, name: str) -> None:
    """Drop a database. One that stays goes with the server, so it fails no test, which would be another one's."""
    for _ in range(3):
        try:
            _execute(dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except Exception as exc:  # noqa: BLE001
            error = exc
        else:
            return
    _say(f"the database {name} could not be dropped: {error}")


Drop = Callable[[str], None]


@pytest.fixture(scope="session")
def _drop(postgres_url: str) -> Iterator[Drop]:
    """Drops databases behind the tests' back: each costs a checkpoint, which no test need wait for."""
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:

        def drop(name: str) -> None:
            pending.append(thread.submit(_drop_database, postgres_url, name))
            if len(pending) > _MOST_PENDING_DROPS:
                pending.popleft().result()

        yield drop
        for one in pending:
            one.result()


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that others are copied from."""
    name = f"eventsvc_test_{secrets.token_hex(4)}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        connection = connect(make_dsn(postgres_url, dbname=name))
        try:
            schema.migrate(connection)
        finally:
            connection.close()
        yield name
    finally:
        _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def new_database(postgres_url: str, _template: str, _drop: Drop) -> Callable[[], AbstractContextManager[str]]:
    """A maker of migrated, empty databases: ``with new_database() as dsn``."""

    @contextmanager
    def new() -> Iterator[str]:
        name = f"{_template}_{secrets.token_hex(4)}"
        _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {_template}")
        try:
            yield make_dsn(postgres_url, dbname=name)
        finally:
            _drop(name)

    return new


@pytest.fixture
def database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The DSN of a migrated, empty database of this test alone."""
    with new_database() as dsn:
        yield dsn


@pytest.fixture
def empty_database(postgres_url: str, _drop: Drop) -> Iterator[str]:
    """The DSN of a database without our tables, of this test alone."""
    name = f"eventsvc_test_{secrets.token_hex(8)}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        yield make_dsn(postgres_url, dbname=name)
    finally:
        _drop(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg2.extensions.connection]:
    """A connection to ``database``, in autocommit mode."""
    opened = connect(database)
    try:
        yield opened
    finally:
        opened.close()


def _elasticsearch(method: str, url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as response:
        return json.load(response)


@pytest.fixture(scope="session")
def citus_url() -> str:
    """The coordinator of a Citus cluster; it is in no package registry, so most runs have none."""
    return _OPTIONS.get("EVENTSVC_TEST_CITUS_URL", "")


@pytest.fixture(scope="session")
def citus_spare_url() -> str:
    """A server with Citus that no cluster has as a worker yet."""
    return _OPTIONS.get("EVENTSVC_TEST_CITUS_SPARE_URL", "")


@pytest.fixture
def index_shards() -> int:
    """Primary shards of each month's index; EVENTSVC_TEST_INDEX_SHARDS runs every test with another layout."""
    return int(_OPTIONS.get(_INDEX_SHARDS, "1"))


@pytest.fixture
def index_prefix(elasticsearch_url: str) -> Iterator[str]:
    """A prefix for names of indexes that is this test's alone; its indexes are removed afterwards."""
    prefix = f"test-{secrets.token_hex(4)}"
    yield prefix
    indexes = _elasticsearch(
        "GET", f"{elasticsearch_url}/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all"
    )
    if indexes:
        names = ",".join(index["index"] for index in indexes)
        _elasticsearch("DELETE", f"{elasticsearch_url}/{names}")


@pytest.fixture
def make_event() -> Callable[..., Event]:
    """A factory of events: ``make_event(message="…")``; seqs count from 1."""
    seqs = itertools.count(1)

    def make(**changes: Any) -> Event:
        values: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "created_at": time.time_ns() // 1_000_000,
            "email": "diego@chefhero.com",
            "environment": "production",
            "component": "orders",
            "message": "the buyer #123456 has placed an order",
            "data": '{"order_id": 123, "amount": 300}',
        }
        if "seq" not in changes:
            values["seq"] = next(seqs)
        values |= changes
        return Event(**({"occurred_at": values["created_at"] * 1_000_000} | values))

    return make
