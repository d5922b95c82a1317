"""Processes that freeze inside a transaction (SIGSTOP): they hold up nobody for long."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from eventsvc.indexer.upkeep import keep_up
from eventsvc.log.connection import connect, session_options
from eventsvc.log.progress import watermark
from eventsvc.log.progress.horizon import Horizon
from eventsvc.settings import Settings

PATIENCE = 60.0  # seconds
FROZEN = {"email": "a@b.test", "environment": "e", "component": "frozen", "message": "m"}

# An event of this component waits, while it is stored, for the advisory lock 1.
_STOP_AT_INSERT = """
    CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_lock(1); PERFORM pg_advisory_unlock(1); RETURN NEW;
    END $$;
    CREATE TRIGGER wait_for_test BEFORE INSERT ON event FOR EACH ROW WHEN (NEW.component = 'frozen')
        EXECUTE FUNCTION wait_for_test();
    SELECT pg_advisory_lock(1)
"""
_WAITS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ %s"
)


@contextmanager
def command(settings: Settings, folder: Path, *words: str) -> Iterator[int]:
    """Run one of our commands in a process group of its own; yields the group."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "eventsvc", *words],
            env=os.environ | settings.to_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def api(settings: Settings, tmp_path: Path, waiting: Callable[..., Any]) -> Iterator[tuple[int, int]]:
    """An API with one worker: its process group and its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    changed = settings.model_copy(update={"port": port, "workers": 1})
    with command(changed, tmp_path, "serve") as group:

        def listens() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return False
            return True

        waiting(listens, PATIENCE)
        yield group, port


def post(port: int, body: bytes, media: str) -> socket.socket:
    """Send a request, and do not wait for its answer."""
    client = socket.create_connection(("127.0.0.1", port))
    head = f"POST /event HTTP/1.1\r\nHost: t\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def horizon_passes(log: Any, waiting: Callable[..., Any]) -> None:
    """Wait until the horizon has reached an event that is stored now."""
    (last,) = log.insert()
    horizon = Horizon(log.connection)
    waiting(lambda: horizon.poll() >= last, PATIENCE)


def test_an_api_process_that_freezes_between_insert_and_commit_does_not_hold_the_horizon(
    log: Any, api: tuple[int, int], waiting: Callable[..., Any]
) -> None:
    group, port = api
    log.fetch(_STOP_AT_INSERT)
    with post(port, json.dumps(FROZEN).encode(), "application/json"):
        waiting(lambda: log.fetch(_WAITS, "put"))
        os.killpg(group, signal.SIGSTOP)
        log.fetch("SELECT pg_advisory_unlock(1)")
        horizon_passes(log, waiting)


def test_an_api_process_that_freezes_within_a_bulk_does_not_hold_the_horizon(
    log: Any, api: tuple[int, int], settings: Settings, waiting: Callable[..., Any]
) -> None:
    group, port = api
    log.fetch(_STOP_AT_INSERT)
    # More than the buffers of the sockets hold, so that the COPY is under way.
    following = json.dumps(FROZEN | {"component": "bulk", "data": "x" * 8_000}).encode() + b"\n"
    with post(port, json.dumps(FROZEN).encode() + b"\n" + following * 4_000, "application/x-ndjson"):
        waiting(lambda: log.fetch(_WAITS, "COPY"), PATIENCE)
        os.killpg(group, signal.SIGSTOP)
        log.fetch("SELECT pg_advisory_unlock(1)")
        stop = threading.Event()
        thread = threading.Thread(target=keep_up, args=(settings, stop), kwargs={"look_every": 0.5})
        thread.start()
        try:
            horizon_passes(log, waiting)
        finally:
            stop.set()
            thread.join()


def test_a_leader_that_freezes_inside_a_transaction_is_replaced(
    settings: Settings, log: Any, run_indexer: Any, tmp_path: Path, waiting: Callable[..., Any]
) -> None:
    with command(settings, tmp_path, "index") as group:
        log.insert()
        log.wait_visible()
        other = connect(settings.database_url.get_secret_value())
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT FROM watermark FOR UPDATE")
            log.insert(1, at="'2020-01-10'")  # a month that has no index: it is noted in a transaction
            waiting(lambda: log.fetch(_WAITS, "FROM watermark"))
            os.killpg(group, signal.SIGSTOP)
            cursor.execute("ROLLBACK")
        other.close()
        with run_indexer():
            log.wait_visible()


def test_a_leader_is_deposed_whatever_its_session_waits_for(database: str, log: Any) -> None:
    idle, within, unread = (connect(database, idle_in_transaction=0) for _ in range(3))
    unread.close()
    for session, statement in ((idle, "SELECT 1"), (within, "BEGIN")):
        assert watermark.try_lead(session)
        with session.cursor() as cursor:
            cursor.execute(statement)
        depose(log)
    options = session_options(statement_timeout=0)
    unread = psycopg2.connect(database, async_=1, options=options)
    psycopg2.extras.wait_select(unread)
    cursor = unread.cursor()
    cursor.execute("SELECT pg_try_advisory_lock(%s), repeat('x', 500000000)", (0x696E646578,))
    depose(log)


def depose(log: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not watermark.find_leader(log.connection):
        assert time.monotonic() < deadline
    while watermark.find_leader(log.connection):
        assert time.monotonic() < deadline
        watermark.depose_hung_leader(log.connection, 0.1)
