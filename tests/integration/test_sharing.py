"""Several indexers share the work of one log, and any of them may freeze or die meanwhile."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.errors import Fenced
from eventsvc.index import bulk, indexes
from eventsvc.indexer.sharing import FAR_BEHIND, index_share
from eventsvc.log.connection import Connection, Pool
from eventsvc.log.progress import index_months, shares, watermark
from eventsvc.log.progress.refusals import Refusal
from eventsvc.log.progress.shares import Result, Share
from eventsvc.settings import Settings

RESULT = Result(("events-v2-2026.11",), (Refusal(150, date(2026, 11, 1), "too deep"),))
JANUARY = date(2020, 1, 1)
MANY = 3 * FAR_BEHIND


@dataclass
class Process:
    """`eventsvc index` as a process, with the port of its metrics."""

    process: subprocess.Popen[bytes]
    port: int

    def count_indexed(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            return int(float(re.findall(rb"^eventsvc_events_indexed_total (.*)", answer.read(), re.MULTILINE)[0]))


@pytest.fixture
def index_process(settings: Settings, tmp_path: Path) -> Callable[[], Any]:
    """A context manager: a process of its own indexes while it is open."""

    @contextmanager
    def run() -> Iterator[Process]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("EVENTSVC_")}
        environment |= settings.model_copy(update={"index_metrics_port": port}).to_environment()
        with (tmp_path / f"log-{port}").open("wb") as output:
            command = [sys.executable, "-m", "eventsvc", "index"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield Process(process, port)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    return run


def list_takers(connection: Connection) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT after, upto FROM index_share WHERE taker IS NOT NULL AND result IS NULL ORDER BY after")
        return cursor.fetchall()


def check_equal(stores: Stores) -> None:
    assert [report.differences for report in verify(stores, list_months(stores.connection)) if not report.equal] == []


def wait_for_two(log: Any, waiting: Callable[..., Any]) -> None:
    """Wait until one indexer leads and another one has announced itself."""
    waiting(lambda: watermark.find_leader(log.connection))
    waiting(lambda: shares.count_others(log.connection) == 2)


def test_a_share_is_taken_once_and_its_result_collected_once(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    shares.offer(connection, Share(fence, 200, 300))
    shares.offer(connection, Share(fence, 100, 200))
    share = shares.take(connection, "a")
    assert share == Share(fence, 100, 200)
    assert shares.collect(connection, fence, 60.0) == {}
    shares.hand_in(connection, "a", share, RESULT)
    assert shares.take_back(connection, fence) == 200
    assert shares.take(connection, "b") is None
    assert shares.collect(connection, fence, 60.0) == {100: RESULT}
    assert shares.collect(connection, fence, 60.0) == {}


def test_the_share_of_a_silent_indexer_is_taken_back_for_good(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    shares.offer(connection, Share(fence, 0, 100))
    share = shares.take(connection, "a")
    assert share is not None
    shares.renew(connection, "a", [share])
    assert shares.collect(connection, fence, 0.0) == {0: None}
    with pytest.raises(Fenced):
        shares.renew(connection, "a", [share])
    shares.hand_in(connection, "a", share, RESULT)
    assert shares.collect(connection, fence, 0.0) == {}


def test_nobody_takes_a_share_of_an_earlier_term(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    shares.offer(connection, Share(fence, 0, 100))
    later = watermark.draw_fence(connection).fence
    assert shares.take(connection, "a") is None
    shares.forget(connection, later)
    assert shares.take_back(connection, fence) is None


def test_a_share_that_was_given_back_is_taken_by_another_one(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    shares.offer(connection, Share(fence, 0, 100))
    assert shares.take(connection, "a")
    assert shares.take(connection, "b") is None
    shares.give_back(connection, "a")
    assert shares.take(connection, "b") == Share(fence, 0, 100)


def test_both_index_a_part_and_everything_is_there_once(
    index_process: Callable[[], Any], log: Any, stores: Stores, waiting: Callable[..., Any]
) -> None:
    log.insert(2, at="'2020-01-10'")
    with index_process() as one, index_process() as other:
        wait_for_two(log, waiting)
        # In one transaction, or the leader may be done with the first half before it sees the second.
        log.fetch("BEGIN")
        log.insert(MANY // 2, at="'2020-01-31 23:59:59.999+00'")
        log.insert(MANY // 2, at="'2020-02-01 00:00:00+00'")
        log.fetch("COMMIT")
        log.wait_visible()
        waiting(lambda: one.count_indexed() + other.count_indexed() >= MANY + 2)
        counts = one.count_indexed(), other.count_indexed()
        assert min(counts) > 0
        assert sum(counts) >= MANY + 2
        check_equal(stores)
        assert log.fetch("SELECT * FROM index_share") == []


def test_a_share_is_indexed_with_what_the_index_refuses(
    log: Any, settings: Settings, elasticsearch: Elasticsearch
) -> None:
    deep: Any = {"x": "secret words"}
    for _ in range(150):
        deep = {"x": deep}
    log.insert(3, at="'2020-01-10'")
    (bad,) = log.insert(data=deep, at="'2020-01-10'")
    index = indexes.create(elasticsearch, settings.index_prefix, JANUARY, replicas=0)
    fence = watermark.draw_fence(log.connection).fence
    with closing(Pool(settings.database_url.get_secret_value(), size=1)) as pool:
        with pytest.raises(Fenced):
            index_share(pool, elasticsearch, Share(fence, 0, 4), threading.Event())
        index_months.add_index(log.connection, fence, JANUARY, index.name, index.uuid)
        done = index_share(pool, elasticsearch, Share(fence, 1, 4), threading.Event())
    assert (done.reached, done.events, done.touched) == (4, 3, frozenset({index.name}))
    assert [refusal.seq for refusal in done.refusals] == [bad]
    indexes.refresh(elasticsearch, [index.name])
    assert elasticsearch.count(index=index.name)["count"] == 2


def test_an_indexer_that_freezes_with_a_share_holds_nothing_up(
    index_process: Callable[[], Any], log: Any, stores: Stores, waiting: Callable[..., Any]
) -> None:
    """It wakes up when its events were indexed by the leader and some of them erased; these stay away."""
    with index_process() as leading:
        waiting(lambda: watermark.find_leader(log.connection))
        with index_process() as helping:
            wait_for_two(log, waiting)
            log.insert(MANY)
            ((after, upto), *_) = waiting(lambda: list_takers(log.connection))
            helping.process.send_signal(signal.SIGSTOP)
            log.wait_visible()
            log.fetch(
                "WITH gone AS (DELETE FROM event WHERE seq > %s AND seq <= %s AND seq %% 3 = 0"
                " RETURNING seq, created_at) INSERT INTO erased"
                " SELECT seq, date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM gone RETURNING seq",
                after,
                upto,
            )
            waiting(lambda: not log.fetch("SELECT seq FROM erased LIMIT 1"))
            helping.process.send_signal(signal.SIGCONT)
            before = helping.count_indexed()
            log.insert()
            log.wait_visible()
            waiting(lambda: helping.count_indexed() >= before)
            check_equal(stores)
        assert leading.process.poll() is None


def test_an_indexer_that_is_killed_with_a_share_holds_nothing_up(
    index_process: Callable[[], Any], log: Any, stores: Stores, waiting: Callable[..., Any]
) -> None:
    with index_process():
        waiting(lambda: watermark.find_leader(log.connection))
        with index_process() as helping:
            wait_for_two(log, waiting)
            log.insert(MANY)
            waiting(lambda: list_takers(log.connection))
            helping.process.kill()
            log.wait_visible()
            check_equal(stores)


def test_the_helping_indexer_takes_over_from_a_killed_leader(
    index_process: Callable[[], Any], log: Any, stores: Stores, waiting: Callable[..., Any]
) -> None:
    with index_process() as leading:
        waiting(lambda: watermark.find_leader(log.connection))
        with index_process():
            wait_for_two(log, waiting)
            log.insert(MANY)
            waiting(lambda: list_takers(log.connection))
            leading.process.kill()
            log.wait_visible()
            check_equal(stores)
            assert log.fetch("SELECT * FROM index_share") == []


def test_documents_that_were_read_long_ago_are_not_sent(
    elasticsearch: Elasticsearch, settings: Settings, make_event: Callable[..., Any]
) -> None:
    """A process that was frozen must not bring back a document that was deleted meanwhile."""
    index = indexes.create(elasticsearch, settings.index_prefix, JANUARY, replicas=0)
    items = [bulk.write_item(make_event(), index.name)]
    long_ago = -1000.0
    with pytest.raises(bulk.Stopped):
        bulk.send(elasticsearch, items, threading.Event(), read_at=long_ago)
    indexes.refresh(elasticsearch, [index.name])
    assert elasticsearch.count(index=index.name)["count"] == 0
