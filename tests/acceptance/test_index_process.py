"""`eventsvc index` as a real process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventsvc.log.connection import Connection
from eventsvc.log.progress import watermark
from eventsvc.settings import load


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def start(database: str, folder: Path, **settings: Any) -> tuple[subprocess.Popen[bytes], Path]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
    environment |= load({}, database_url=database, **settings).to_environment()
    log = folder / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "eventsvc", "index"]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output), log


def wait_for(condition: Any, log: Path, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return value


def end(process: subprocess.Popen[bytes], number: int, log: Path) -> None:
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 0, log.read_text()
    assert time.monotonic() - started < 15  # a request under way may take 60 s
    assert "Traceback" not in log.read_text()


def test_it_indexes_until_told_to_stop(
    database: str, connection: Connection, elasticsearch_url: str, index_prefix: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process, log = start(
        database, tmp_path, elasticsearch_url=elasticsearch_url, index_prefix=index_prefix, index_metrics_port=port
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO event (id, email, environment, component, message, data)"
            " VALUES (gen_random_uuid(), 'a@b.test', 'e', 'c', 'm', '{}')"
        )
    wait_for(lambda: watermark.read(connection).seq == 1, log)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert b"eventsvc_events_indexed_total 1.0" in answer.read()
    end(process, signal.SIGTERM, log)


def test_it_stops_while_elasticsearch_hangs(
    database: str, connection: Connection, hanging: str, tmp_path: Path
) -> None:
    process, log = start(database, tmp_path, elasticsearch_url=hanging)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO event (id, email, environment, component, message, data)"
            " VALUES (gen_random_uuid(), 'a@b.test', 'e', 'c', 'm', '{}')"
        )
    wait_for(lambda: "leading" in log.read_text(), log)
    end(process, signal.SIGTERM, log)


def test_without_elasticsearch_it_keeps_the_log_in_order(database: str, tmp_path: Path) -> None:
    process, log = start(database, tmp_path)
    wait_for(lambda: "no Elasticsearch is configured" in log.read_text(), log)
    end(process, signal.SIGINT, log)


def test_it_waits_for_a_database_that_is_not_migrated(empty_database: str, tmp_path: Path, hanging: str) -> None:
    process, log = start(empty_database, tmp_path, elasticsearch_url=hanging)
    wait_for(lambda: "eventsvc admin migrate" in log.read_text(), log)
    end(process, signal.SIGTERM, log)
