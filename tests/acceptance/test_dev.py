"""`eventsvc dev`, from outside: start, use, kill, stop, start again."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

EVENT = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "the buyer #123456 has placed an order",
    "data": {"order_id": 123, "amount": 300},
}
QUERY = "((email eq 'diego@chefhero.com') AND (createdAt gte '2018-1-1') AND (message ct 'buyer' ))"


_numbers = itertools.count()


def _header(dev: Any, name: str) -> str:
    """A header of the answer to a query that was never asked before, so that no cache knows it."""
    return str(dev.ask("GET", "/event", q=f"message ct 'nobody said this {next(_numbers)}'")[1].get(name, ""))


@pytest.mark.timeout(1200)
def test_killing_anything_loses_nothing_and_it_comes_back_by_itself(
    make_dev: Any, make_poster: Any, eventually: Any
) -> None:
    dev = make_dev(EVENTSVC_DEV_SERVERS="local")
    assert "Elasticsearch: local process" in dev.start()
    status, headers, stored = dev.ask("POST", "/event", EVENT)
    assert (status, headers["location"]) == (201, f"/event/{stored['id']}")
    assert dev.ask("GET", "/event")[2] == [stored]
    assert dev.ask("GET", "/event", q=QUERY)[2] == [stored]

    with make_poster(dev) as poster:
        poster.wait_for_more()
        dev.kill("eventsvc index")
        poster.wait_for_more()
        eventually(lambda: _header(dev, "eventsvc-watermark") not in ("", "0"), what="events in the index")
        dev.kill("org.elasticsearch.server")
        poster.wait_for_more()
        dev.kill("postgres -D")
        poster.wait_for_more()

    expected = sorted([*poster.acknowledged, stored["id"]])
    found = sorted(event["id"] for event in dev.all_events())
    assert set(expected) <= set(found)
    assert len(found) == len(set(found))

    # Elasticsearch starts in 10 s, and on a machine that does much else in 90.
    eventually(lambda: _header(dev, "eventsvc-source") == "index+tail", what="the index answering again", seconds=300)
    assert sorted(event["id"] for event in dev.all_events(q="createdAt gte '2018-1-1'")) == found
    assert dev.ask("GET", "/event", q=QUERY)[2] == [stored]
    assert dev.stop() == 0
    assert dev.pids() == []


@pytest.mark.timeout(1200)
def test_what_was_stored_is_there_at_the_next_start(
    make_dev: Any, eventually: Any, elasticsearch_url: str, index_prefix: str
) -> None:
    dev = make_dev(
        EVENTSVC_DEV_SERVERS="local", EVENTSVC_ELASTICSEARCH_URL=elasticsearch_url, EVENTSVC_INDEX_PREFIX=index_prefix
    )
    said = dev.start("--sample", until="10,000 sample events are stored")
    assert dev.ask("GET", "/event/stats", q="createdAt lt 'now-1d'")[2]["count"] > 5_000  # of the last week
    stored = dev.ask("POST", "/event", EVENT)[2]
    assert dev.stop(signal.SIGTERM) == 0
    assert dev.pids() == []
    assert "\r" not in said
    assert "\x1b" not in said

    dev.start("--sample", until="sample events are there already")
    assert dev.ask("GET", "/event/stats")[2]["count"] == 10_001
    assert dev.ask("GET", "/event", q=QUERY, limit="1")[2] == [stored]
    dev.stop(signal.SIGKILL)
    eventually(lambda: dev.pids() == [], what="all processes gone after `eventsvc dev` was killed")

    dev.start()
    assert dev.ask("GET", "/event", q=QUERY, limit="1")[2] == [stored]


def _screen(dev: Any) -> list[str]:
    """What the lines of a terminal show in the end; the last one is where the cursor stands."""
    return [line.rpartition("\r\x1b[K")[2] for line in dev.said().replace("\r\n", "\n").split("\n")]


@pytest.mark.timeout(1200)
def test_commands_beside_it_need_no_settings_and_a_status_line_stands_on_the_terminal(
    make_dev: Any, eventually: Any, elasticsearch_url: str, index_prefix: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dev = make_dev(
        EVENTSVC_DEV_SERVERS="local",
        EVENTSVC_DEV_POSTGRES_PORT=str(port),
        EVENTSVC_ELASTICSEARCH_URL=elasticsearch_url,
        EVENTSVC_INDEX_PREFIX=index_prefix,
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"EVENTSVC_DATA": str(dev.folder)}
        command = [sys.executable, "-m", "eventsvc", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    dev.start(on_terminal=True)
    dev.ask("POST", "/event", EVENT)
    status = f"1 event | index up to date | http://127.0.0.1:{dev.port}/"
    eventually(lambda: _screen(dev)[-1] == status, what="the event in the status line")
    written = (dev.folder / "connection").read_text()
    assert f"@127.0.0.1:{port}/postgres\n" in written
    assert f"EVENTSVC_INDEX_PREFIX={index_prefix}\n" in written
    found = run("search", QUERY)
    assert (found.returncode, found.stderr) == (0, f"eventsvc: using the development server of {dev.folder}\n")
    assert "the buyer #123456" in found.stdout
    exported = run("admin", "export")
    assert (exported.returncode, exported.stdout.count("buyer #123456")) == (0, 1)
    assert dev.stop() == 0
    assert not (dev.folder / "connection").exists()
    last = [f"stopping; the data stays in {dev.folder}", ""]
    eventually(lambda: _screen(dev)[-2:] == last, what="a terminal without a status line")
    assert not [line for line in _screen(dev) if "index up to date" in line]
    assert run("search", QUERY).returncode == 3
    assert "no development server runs" in run("admin", "export").stderr


def test_a_second_one_on_the_same_folder_or_port_says_so_in_one_line(make_dev: Any) -> None:
    dev = make_dev(EVENTSVC_DEV_SERVERS="local", EVENTSVC_ELASTICSEARCH_URL="http://127.0.0.1:9")
    dev.folder.mkdir()
    with socket.create_server(("127.0.0.1", dev.port)):
        said = dev.start(until="eventsvc: ")
        assert dev.process.wait(20) == 1
    assert said.startswith(f"eventsvc: cannot listen on 127.0.0.1 port {dev.port}: ")
    assert len(said.splitlines()) == 1

    with (dev.folder / "lock").open("a") as lock:
        holder = subprocess.Popen(
            [sys.executable, "-c", "import fcntl; fcntl.flock(0, fcntl.LOCK_EX); print('held', flush=True); input()"],
            stdin=lock,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        said = dev.start(until="eventsvc: ")
        assert dev.process.wait(20) == 1
        holder.kill()
        holder.communicate()
    assert "is in use by another `eventsvc dev`" in said
    assert len(said.splitlines()) == 1
