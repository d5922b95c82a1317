"""Where a service may be open, and how it gets its first key."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import parse_dsn

from eventsvc.access import store
from eventsvc.access.key_text import make_key
from eventsvc.access.rights import Right
from eventsvc.access.store import Wanted
from eventsvc.access.without_keys import MAKE_ONE
from eventsvc.dev.server import free_port
from eventsvc.log.connection import Connection, connect

SERVE = [sys.executable, "-m", "eventsvc", "serve"]


@pytest.fixture
def serve(database: str, make_bare: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A factory of services in front of the test's log."""
    with ExitStack() as stack:

        def make(**environment: str) -> Any:
            service = make_bare(tmp_path, EVENTSVC_DATABASE_URL=database, **environment).start()
            stack.callback(service.stop)
            return service

        yield make


def test_others_can_reach_it_and_there_is_no_key_so_it_does_not_start(database: str) -> None:
    environment = os.environ | {"EVENTSVC_DATABASE_URL": database, "EVENTSVC_HOST": "0.0.0.0"}
    environment["EVENTSVC_PORT"] = str(free_port())

    done = subprocess.run(SERVE, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert MAKE_ONE in done.stderr
    assert "EVENTSVC_OPEN=true" in done.stderr


def test_the_command_that_the_refusal_names_makes_a_key(database: str, connection: Connection) -> None:
    command = [sys.executable, "-m", *MAKE_ONE.split()]

    done = subprocess.run(command, env=os.environ | {"EVENTSVC_DATABASE_URL": database}, timeout=60, check=False)

    assert done.returncode == 0
    assert [key.name for key in store.list_keys(connection)] == ["NAME"]


@pytest.mark.parametrize(("by_order", "status"), [("false", 401), ("true", 200)])
def test_an_open_service_lets_nobody_in_who_comes_from_elsewhere_through_a_proxy(
    serve: Callable[..., Any], by_order: str, status: int
) -> None:
    service = serve(EVENTSVC_OPEN=by_order)
    found = [
        service.ask("GET", "/event", headers={"X-Forwarded-For": address}).status
        for address in ("203.0.113.9", "127.0.0.1")
    ]

    assert found == [status, 200]


def test_others_can_reach_it_by_order(serve: Callable[..., Any]) -> None:
    assert serve(EVENTSVC_HOST="0.0.0.0", EVENTSVC_OPEN="true").ask("GET", "/event").status == 200


@pytest.mark.parametrize("environment", [{"EVENTSVC_HOST": "0.0.0.0"}, {"EVENTSVC_OPEN": "true"}, {}])
def test_with_a_key_it_starts_and_is_closed(
    serve: Callable[..., Any], connection: Connection, environment: dict[str, str]
) -> None:
    key = store.create(connection, Wanted("reader", ["read"])).text
    service = serve(**environment)

    assert [service.ask("GET", "/event", key=one).status for one in ("", key)] == [401, 200]


def test_on_loopback_it_is_open_until_the_first_key_is_made(serve: Callable[..., Any], connection: Connection) -> None:
    service = serve()
    assert service.ask("GET", "/event").status == 200

    key = store.create(connection, Wanted("reader", ["read"])).text
    began = time.monotonic()
    while service.ask("GET", "/event").status == 200:
        assert time.monotonic() - began < 15  # 5 s, and a machine with other things to do
    store.revoke(connection, "reader")
    while service.ask("GET", "/event", key=key).status == 200:
        assert time.monotonic() - began < 30
    assert service.ask("GET", "/event").status == 401  # taking the last key back opens nothing


def test_a_log_that_is_away_lets_nobody_in(make_bare: Callable[..., Any], tmp_path: Path) -> None:
    address = "postgresql://nobody@127.0.0.1:1/none"
    service = make_bare(tmp_path, EVENTSVC_HOST="0.0.0.0", EVENTSVC_DATABASE_URL=address).start()
    try:
        assert service.ask("GET", "/event", key=make_key()).status == 503
        assert service.ask("GET", "/healthz").status == 200
    finally:
        service.stop()


def test_a_service_that_started_without_the_log_and_needs_no_key_records_nothing(
    postgres_url: str, database: str, serve: Callable[..., Any], connection: Connection
) -> None:
    name = parse_dsn(database)["dbname"]
    with closing(connect(postgres_url)) as other, other.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            service = serve()
            refused = service.ask("GET", "/event").status
        finally:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    began = time.monotonic()
    while service.ask("GET", "/event").status != 200:
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    service.stop()  # now it has stored what it recorded

    assert refused == 503
    with connection.cursor() as cursor:
        cursor.execute("SELECT message FROM event")
        assert cursor.fetchall() == []


def test_migrate_stores_the_keys_of_a_deployment_once(
    database: str, connection: Connection, serve: Callable[..., Any]
) -> None:
    admin, metrics = make_key(), make_key()
    keys = {"EVENTSVC_ADMIN_KEY": admin, "EVENTSVC_METRICS_KEY": metrics}
    command = [sys.executable, "-m", "eventsvc", "admin", "migrate"]
    environment = os.environ | {"EVENTSVC_DATABASE_URL": database} | keys
    done = [
        subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
        for _ in range(2)
    ]
    service = serve(EVENTSVC_HOST="0.0.0.0")

    assert ["stored the key" in text for text in done] == [True, False]
    assert {right for key in store.list_keys(connection) for right in key.rights} == set(Right)
    statuses = [service.ask("GET", path, key=key).status for key in (admin, metrics) for path in ("/event", "/metrics")]
    assert statuses == [200, 200, 403, 200]
