"""The indexer against real servers: everything arrives, exactly once, whatever happens in between."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec
import pytest
from elasticsearch import Elasticsearch

from eventsvc.index import indexes
from eventsvc.index.mapping import from_hit
from eventsvc.log.connection import connect
from eventsvc.log.months import ensure_months
from eventsvc.log.progress import index_months, refusals, watermark
from eventsvc.log.progress.refusals import Refusal
from eventsvc.log.read.batches import read_batch, read_events

TAKE_OVER = 30.0  # seconds; 5 are promised, of a machine that has something left for the stand-by


def documents(elasticsearch: Elasticsearch, log: Any) -> dict[int, dict[str, Any]]:
    """Every document of the indexes in use, by seq."""
    names = [index.name for index in index_months.list_indexes(log.connection).values()]
    if not names:
        return {}
    answer = elasticsearch.search(index=",".join(names), size=10_000)
    found = {hit["_source"]["seq"]: hit["_source"] for hit in answer["hits"]["hits"]}
    assert len(found) == len(answer["hits"]["hits"])
    return found


def test_events_arrive_as_they_are_in_the_log(indexer: Any, log: Any, elasticsearch: Elasticsearch) -> None:
    log.insert(700, data={"a": [1, {"b": None}], "tiny": 1e-7, "huge": 10**30, "": {".": "ü😀\u2028"}})
    log.insert(1, data=[1, "two"])
    log.insert(1, data="text", message="İstanbul \U0001f600 %")
    log.wait_visible()
    found = documents(elasticsearch, log)
    events = read_batch(log.connection, after=0, to=10_000).events
    assert len(events) == 702
    assert events == tuple(from_hit(found[event.seq]) for event in events)


def test_one_event_alone_is_visible_soon(indexer: Any, log: Any) -> None:
    """One of a few tries: a busy machine slows some of them down, an indexer that waits too long all of them."""

    def measure() -> float:
        started = time.monotonic()
        log.insert()
        log.wait_visible()
        return time.monotonic() - started

    measure()
    assert any(measure() < 1.5 for _ in range(5))


def test_each_month_has_an_index_of_its_own(
    indexer: Any, log: Any, elasticsearch: Elasticsearch, index_prefix: str
) -> None:
    log.insert(2, at="'2020-01-31 23:59:59.999+00'")
    log.insert(3, at="'2020-02-01 00:00:00+00'")
    log.wait_visible()
    names = {month: index.name for month, index in index_months.list_indexes(log.connection).items()}
    assert names == {
        date(2020, 1, 1): f"{index_prefix}-v2-2020.01",
        date(2020, 2, 1): f"{index_prefix}-v2-2020.02",
    }
    counts = [elasticsearch.count(index=name)["count"] for name in names.values()]
    assert counts == [2, 3]
    assert elasticsearch.count(index=index_prefix)["count"] == 5


def test_gaps_and_rollbacks_do_not_hold_the_watermark(indexer: Any, log: Any, database: str) -> None:
    log.insert(3)
    other = connect(database)
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT nextval('event_seq_seq') FROM generate_series(1, 50)")
        cursor.execute("ROLLBACK")
    other.close()
    log.wait_visible(53)


def test_batches_are_read_by_index(log: Any) -> None:
    """On a log of many months, whatever the planner believes of them."""
    ensure_months(log.connection, date(2020, 1, 1), date(2020, 8, 1))
    for month in range(1, 9):
        log.insert(2_000, at=f"'2020-{month:02}-10'")
    log.fetch("ANALYZE event")
    statement = "EXPLAIN SELECT * FROM event WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s"
    near = "\n".join(line for (line,) in log.fetch(statement, 15_000, 15_900, 5_000))
    assert "Seq Scan on event_2020" not in near
    far_behind = "\n".join(line for (line,) in log.fetch(statement, 0, 16_000, 500))
    assert "Merge Append" in far_behind
    assert "Sort  (cost" not in far_behind


def test_batches_are_bounded_in_size(log: Any) -> None:
    log.insert(2_000, data={"text": "x" * 2_000})
    batch = read_batch(log.connection, after=0, to=5_000, most_characters=1_000_000)
    assert 500 <= len(batch.events) <= 1_000
    assert batch.reached == batch.events[-1].seq
    rest = read_batch(log.connection, after=batch.reached, to=5_000)
    assert len(batch.events) + len(rest.events) == 2_000
    assert rest.reached == 5_000


def test_a_refused_event_is_recorded_and_does_not_hold_up_the_rest(
    run_indexer: Any, log: Any, elasticsearch: Elasticsearch
) -> None:
    log.insert()
    # A flattened field's depth limit of 100 is beyond the API's limit of 20, but not beyond SQL.
    deep: Any = {"x": "secret words"}
    for _ in range(150):
        deep = {"x": deep}
    bad = log.insert(2, data=deep)
    good = log.insert(3)
    with run_indexer():
        log.wait_visible()
    assert sorted(documents(elasticsearch, log)) == [1, *good]
    failures = log.fetch("SELECT seq, reason FROM index_failure ORDER BY seq")
    assert [seq for seq, _ in failures] == bad
    assert "secret" not in failures[0][1]
    assert failures[0][1]


def test_an_index_that_was_deleted_is_filled_again(
    indexer: Any, log: Any, elasticsearch: Elasticsearch, waiting: Any
) -> None:
    log.insert(5, at="'2020-01-10'")
    log.insert(5)
    log.wait_visible()
    (old, _) = index_months.list_indexes(log.connection).values()
    elasticsearch.indices.delete(index=old.name)
    log.insert(1)
    seqs = set(range(1, 12))
    waiting(lambda: set(documents_or_none(elasticsearch, log)) == seqs)
    # A search under way may still ask for the old name: it must find nothing there rather than too little.
    assert old.name not in {index.name for index in index_months.list_indexes(log.connection).values()}
    log.wait_visible()


def documents_or_none(elasticsearch: Elasticsearch, log: Any) -> dict[int, Any]:
    from elasticsearch import NotFoundError

    try:
        return documents(elasticsearch, log)
    except NotFoundError:
        return {}


def test_an_index_that_was_replaced_is_noticed_without_any_writing(
    indexer: Any, log: Any, elasticsearch: Elasticsearch, waiting: Any
) -> None:
    log.insert(5)
    log.wait_visible()
    (old,) = index_months.list_indexes(log.connection).values()
    elasticsearch.indices.delete(index=old.name)
    elasticsearch.indices.create(index=old.name)
    waiting(lambda: [i.name for i in index_months.list_indexes(log.connection).values()] != [old.name])
    log.wait_visible()
    assert sorted(documents(elasticsearch, log)) == [1, 2, 3, 4, 5]


def test_the_index_of_another_log_is_never_taken_for_ours(
    run_indexer: Any, log: Any, elasticsearch: Elasticsearch, index_prefix: str
) -> None:
    name = indexes.index_name(index_prefix, date(2020, 1, 1))
    elasticsearch.index(index=name, id="1", document={"seq": 1, "message": "a stranger"})
    with run_indexer():
        log.insert(1, at="'2020-01-10'")
        log.wait_visible()
    (index,) = index_months.list_indexes(log.connection).values()
    assert index.name == f"{name}-g2"


def test_erased_events_leave_the_index(indexer: Any, log: Any, elasticsearch: Elasticsearch, waiting: Any) -> None:
    log.insert(5)
    log.wait_visible()
    with log.connection.cursor() as cursor:
        cursor.execute(
            "WITH gone AS (DELETE FROM event WHERE seq IN (2, 4) RETURNING seq, created_at)"
            " INSERT INTO erased SELECT seq, date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM gone"
        )
    waiting(lambda: not log.fetch("SELECT seq FROM erased"))
    assert sorted(documents(elasticsearch, log)) == [1, 3, 5]


def test_a_log_restored_to_an_older_state_is_indexed_as_it_is(
    run_indexer: Any, log: Any, elasticsearch: Elasticsearch
) -> None:
    """Its seqs are drawn again, for other events; what the index holds of the first ones must not stay."""
    with run_indexer():
        log.insert(5)
        log.wait_visible()
    log.fetch("DELETE FROM event WHERE seq > 2")
    log.fetch("UPDATE watermark SET checkpoint = 2, seq = 2, fence = 1")
    log.fetch("SELECT setval('event_seq_seq', 2)")
    with run_indexer():
        log.insert(3, message="other %s")
        log.wait_visible()
    messages = {seq: document["message"] for seq, document in documents(elasticsearch, log).items()}
    assert messages == {1: "the buyer #1", 2: "the buyer #2", 3: "other 1", 4: "other 2", 5: "other 3"}


def test_what_a_new_primary_does_not_have_leaves_the_index(
    run_indexer: Any, log: Any, elasticsearch: Elasticsearch
) -> None:
    """A failover in asynchronous mode loses the last events and leaves a gap in the seqs: nothing overwrites these."""
    with run_indexer():
        log.insert(5)
        log.insert(1, at="'2020-01-31 12:00+00'")
        log.wait_visible()
    log.fetch("DELETE FROM event WHERE seq > 2")
    log.fetch("UPDATE watermark SET checkpoint = 2, seq = 2")
    log.fetch("SELECT setval('event_seq_seq', 5)")
    with run_indexer():
        log.insert(2, message="other %s")
        log.wait_visible()
    messages = {seq: document["message"] for seq, document in documents(elasticsearch, log).items()}
    assert messages == {1: "the buyer #1", 2: "the buyer #2", 6: "other 1", 7: "other 2"}


def test_the_stand_by_takes_over(run_indexer: Any, log: Any, waiting: Any) -> None:
    """Both run in this process, and either may win: what counts is that another session leads and the log goes on."""
    with run_indexer(), run_indexer():
        log.insert()
        log.wait_visible()
        first = watermark.find_leader(log.connection)
        started = time.monotonic()
        log.fetch("SELECT pg_terminate_backend(%s)", first)
        waiting(lambda: watermark.find_leader(log.connection) not in {None, first})
        log.insert()
        log.wait_visible()
        assert time.monotonic() - started < TAKE_OVER


def test_a_leader_that_hangs_is_deposed(run_indexer: Any, log: Any, database: str, waiting: Any) -> None:
    hung = connect(database)
    assert watermark.try_lead(hung)
    fence = watermark.draw_fence(hung).fence
    with run_indexer():
        log.insert()
        started = time.monotonic()
        log.wait_visible()
        assert time.monotonic() - started < TAKE_OVER
    assert watermark.read(log.connection).fence > fence
    with pytest.raises(Exception, match=r"terminat|closed"):
        watermark.move(hung, fence, checkpoint=10, seq=10)
    hung.close()


def test_a_change_of_the_indexes_by_others_makes_the_leader_start_again(indexer: Any, log: Any, waiting: Any) -> None:
    log.insert()
    log.wait_visible()
    fence = watermark.draw_fence(log.connection).fence
    log.insert()
    log.wait_visible()
    assert watermark.read(log.connection).fence > fence


class Gate:
    """A port that is refused until the gate opens, and then leads to a server."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))  # and not listening: connections are refused
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def open(self) -> None:
        self._listener.listen()
        self._run(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self, work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._run(self._copy, client, server)
                self._run(self._copy, server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source:
            while block := source.recv(65_536):
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def gate(elasticsearch_url: str) -> Iterator[Gate]:
    gate = Gate(elasticsearch_url)
    yield gate
    gate.close()


def test_it_goes_on_by_itself_when_elasticsearch_comes_back(
    run_indexer: Any, log: Any, gate: Gate, waiting: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def has_failed() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "the index is away" in said

    with run_indexer(elasticsearch_url=gate.url) as thread:
        log.insert()
        waiting(has_failed)
        assert watermark.read(log.connection).seq == 0
        gate.open()
        log.wait_visible()
        assert thread.is_alive()


def test_what_was_refused_is_recorded_once_with_the_latest_reason(log: Any) -> None:
    fence = watermark.draw_fence(log.connection).fence
    refusals.record(log.connection, fence, [Refusal(7, date(2026, 11, 1), "a"), Refusal(8, date(2026, 11, 1), "b")])
    refusals.record(log.connection, fence, [Refusal(7, date(2026, 11, 1), "c")])
    assert log.fetch("SELECT seq, reason FROM index_failure ORDER BY seq") == [(7, "c"), (8, "b")]


def test_events_are_read_singly(log: Any) -> None:
    seqs = log.insert(3)
    assert [event.seq for event in read_events(log.connection, [*seqs[1:], 999])] == seqs[1:]
    assert msgspec.json.decode(read_events(log.connection, seqs[:1])[0].data) == {"order_id": 123}
