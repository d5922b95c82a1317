"""PostgreSQL and Elasticsearch as containers of `eventsvc dev`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.server import Server, wait_until_ready


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _engine() -> None:
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        pytest.exit("no Docker engine answers; nothing is tested in containers here", returncode=0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder; the volumes that belong to it are removed afterwards."""
    folder = tmp_path / "the data"
    yield folder
    for volume in _docker("volume", "ls", "-q", "-f", f"name={_identity(folder)}").split():
        _docker("volume", "rm", volume)


def _identity(folder: Path) -> str:
    return str(json.loads((folder / "containers.json").read_text())["name"])


def _started(server: Server) -> Server:
    try:
        server.start()
        wait_until_ready(server, timeout=200)
    except BaseException:
        server.stop()
        raise
    return server


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_log_outlives_its_container_and_a_kill(folder: Path) -> None:
    server = _started(find_postgres(folder, say=print, way="containers"))
    _execute(server.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
    server.stop()

    server = _started(find_postgres(folder, say=print))
    assert server.way == "container of postgres:18"
    assert _execute(server.url, "SELECT n FROM kept") == [(1,)]
    url = server.url
    name = f"{_identity(folder)}-postgres"
    _docker("kill", name)
    _eventually(lambda: not server.alive())
    _started(server)
    assert server.url == url
    assert _execute(url, "SELECT n FROM kept") == [(1,)]
    server.stop()
    assert _docker("ps", "-aq", "--filter", f"name={name}") == ""


def test_a_container_goes_when_whoever_started_it_is_killed(folder: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from eventsvc.dev.find import find_postgres\n"
        "server = find_postgres(pathlib.Path(sys.argv[1]), say=print, way='containers', lasting=False)\n"
        "server.start()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -9
    _eventually(lambda: _docker("ps", "-aq", "--filter", f"name={_identity(folder)}") == "")


def test_elasticsearch_as_a_container_answers_on_the_loopback_interface_alone(folder: Path) -> None:
    found = find_elasticsearch(folder, say=print, way="containers", lasting=False)
    assert found is not None
    server = _started(found)
    try:
        port = server.url.rsplit(":", 1)[1]
        assert f"127.0.0.1:{port}->9200/tcp" in _docker("ps", "--format", "{{.Ports}}")
    finally:
        server.stop()
