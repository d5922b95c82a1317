"""Sending by _bulk through a real client whose answers are made to fail now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import elasticsearch as es
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import Elasticsearch

from eventsvc.errors import IndexUnavailable
from eventsvc.event import Event
from eventsvc.index import bulk, indexes
from eventsvc.index.bulk import IndexVanished, Item, Stopped, delete_item, erase_item, send, write_item
from eventsvc.settings import Settings


def answered(status: int) -> es.ApiError:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "127.0.0.1", 9))
    return es.ApiError("planned", meta, {"error": {"type": "planned"}})


class Unreliable:
    """The real client; before each request a plan may raise, or change the answer."""

    def __init__(
        self, client: Elasticsearch, *plan: Any, check: Callable[[bytes], None] = lambda _operations: None
    ) -> None:
        self.client, self.plan, self.sizes, self.check = client, list(plan), list[int](), check

    def bulk(self, **options: Any) -> Any:
        self.sizes.append(options["operations"].count(b"\n") // 2)
        self.check(options["operations"])
        step = self.plan.pop(0) if self.plan else None
        if isinstance(step, Exception):
            raise step
        answer = self.client.bulk(**options)
        return step(answer) if step else answer


@pytest.fixture
def index(elasticsearch: Elasticsearch, settings: Settings) -> str:
    return indexes.create(elasticsearch, settings.index_prefix, date(2026, 11, 1), replicas=0).name


@pytest.fixture
def items(make_event: Callable[..., Event], index: str) -> list[Item]:
    return [write_item(make_event(), index) for _ in range(10)]


def count(elasticsearch: Elasticsearch, index: str) -> int:
    indexes.refresh(elasticsearch, [index])
    return int(elasticsearch.count(index=index)["count"])


def send_through(client: Any, items: list[Item]) -> list[bulk.RefusedItem]:
    return send(client, items, threading.Event())


def test_everything_is_stored_whatever_fails_for_a_while(
    elasticsearch: Elasticsearch, index: str, items: list[Item]
) -> None:
    client = Unreliable(
        elasticsearch, answered(429), es.ConnectionTimeout("planned"), answered(503), es.ConnectionError("planned")
    )
    assert send_through(client, items) == []
    assert count(elasticsearch, index) == 10
    assert client.sizes == [10, 10, 5, 5, 5, 5]


def test_a_slow_server_is_sent_less_at_a_time(elasticsearch: Elasticsearch, index: str, items: list[Item]) -> None:
    late = es.ConnectionTimeout("planned")
    client = Unreliable(elasticsearch, late, late, late, late, late)
    assert send_through(client, items) == []
    assert count(elasticsearch, index) == 10
    assert client.sizes == [10, 5, 2, 1, 1, 1, 1, 3, 5]


def test_a_request_that_is_too_large_is_halved(elasticsearch: Elasticsearch, index: str, items: list[Item]) -> None:
    client = Unreliable(elasticsearch, answered(413), answered(413))
    assert send_through(client, items) == []
    assert count(elasticsearch, index) == 10
    assert client.sizes == [10, 5, 2, 3, 5]


def test_a_single_document_that_is_too_large_is_refused(elasticsearch: Elasticsearch, items: list[Item]) -> None:
    (refused,) = send_through(Unreliable(elasticsearch, answered(413)), items[:1])
    assert refused.item == items[0]
    assert "413" in refused.reason


def test_items_that_are_refused_for_now_are_sent_again_alone(
    elasticsearch: Elasticsearch, index: str, items: list[Item]
) -> None:
    def busy(answer: Any) -> Any:
        body = answer.body | {"errors": True}
        error = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
        body["items"][3] = {"index": {"status": 429, "error": error}}
        return body

    client = Unreliable(elasticsearch, busy)
    assert send_through(client, items) == []
    assert client.sizes == [10, 1]


def test_a_document_that_breaks_a_rule_is_refused_alone_and_not_quoted(
    elasticsearch: Elasticsearch, index: str, items: list[Item]
) -> None:
    lines = items[4].lines.replace(b'"seq":', b'"seq":"my secret","was":')
    bad = Item(items[4].seq, index, lines)
    (refused,) = send_through(elasticsearch, [*items[:4], bad, *items[5:]])
    assert refused.item is bad
    assert refused.reason.startswith("document_parsing_exception")
    assert "secret" not in refused.reason
    assert count(elasticsearch, index) == 9


def test_an_index_that_is_gone_is_never_made_by_itself(
    elasticsearch: Elasticsearch, index: str, items: list[Item]
) -> None:
    elasticsearch.indices.delete(index=index)
    with pytest.raises(IndexVanished) as caught:
        send_through(elasticsearch, items)
    assert caught.value.name == index
    assert indexes.uuids(elasticsearch, [index]) == {}


def test_sending_stops_when_told_to(elasticsearch: Elasticsearch, items: list[Item]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        send(Unreliable(elasticsearch, answered(503)), items, stop)  # type: ignore[arg-type]


def test_requests_are_cut_by_bytes(elasticsearch: Elasticsearch, index: str, make_event: Callable[..., Event]) -> None:
    large = [write_item(make_event(message="word " * 1_600), index) for _ in range(220)]
    client = Unreliable(elasticsearch)
    assert send_through(client, large) == []
    assert sum(client.sizes) == 220
    assert len(client.sizes) > 1
    assert max(client.sizes) * len(large[0].lines) <= bulk.MOST_BYTES + len(large[0].lines)


def test_writing_and_removing_twice_does_no_harm(elasticsearch: Elasticsearch, index: str, items: list[Item]) -> None:
    for _ in range(2):
        assert send_through(elasticsearch, items) == []
    assert count(elasticsearch, index) == 10
    for _ in range(2):
        assert send_through(elasticsearch, [delete_item(index, "1"), delete_item(index, "2")]) == []
    assert count(elasticsearch, index) == 8


def test_a_late_request_brings_nothing_back(
    elasticsearch: Elasticsearch, index: str, make_event: Callable[..., Event]
) -> None:
    """A leader that hung wakes up with a batch half sent; meanwhile another has led, and events were erased."""
    there, never_written = make_event(), make_event()
    late = [write_item(event, index, version=3) for event in (there, never_written)]
    assert send_through(elasticsearch, late[:1]) == []
    assert send_through(elasticsearch, [erase_item(index, event.seq) for event in (there, never_written)]) == []
    assert send_through(elasticsearch, late) == []
    assert count(elasticsearch, index) == 0


def test_a_repair_counts_whatever_came_before(
    elasticsearch: Elasticsearch, index: str, make_event: Callable[..., Event]
) -> None:
    event = make_event()
    assert send_through(elasticsearch, [write_item(event, index, version=3)]) == []
    elasticsearch.update(index=index, id=str(event.seq), doc={"message": "forged"})
    assert send_through(elasticsearch, [write_item(event, index, version=3)]) == []
    assert elasticsearch.get(index=index, id=str(event.seq))["_source"]["message"] == "forged"
    assert send_through(elasticsearch, [write_item(event, index)]) == []
    assert elasticsearch.get(index=index, id=str(event.seq))["_source"]["message"] == event.message
    assert send_through(elasticsearch, [erase_item(index, event.seq)]) == []
    assert count(elasticsearch, index) == 0


def test_waiting_grows_and_stays_bounded() -> None:
    assert all(0.05 <= bulk.backoff(0) <= 0.1 for _ in range(20))
    assert all(1.5 <= bulk.backoff(attempt) <= 3 for attempt in (5, 50, 5_000))


def refused_whole(status: int, culprit: bytes) -> Callable[[bytes], None]:
    """Refuse requests that hold certain bytes, as a proxy may do."""

    def check(operations: bytes) -> None:
        if culprit in operations:
            raise answered(status)

    return check


@pytest.mark.parametrize("status", [400, 413])
def test_a_request_that_is_refused_as_a_whole_is_halved_until_the_culprit_is_found(
    elasticsearch: Elasticsearch, index: str, items: list[Item], status: int
) -> None:
    client = Unreliable(elasticsearch, check=refused_whole(status, b'"_id":"4"'))
    (refused,) = send_through(client, items)
    assert (refused.item.seq, str(status) in refused.reason) == (4, True)
    assert count(elasticsearch, index) == 9


def test_nothing_counts_as_refused_while_every_request_is(elasticsearch: Elasticsearch, items: list[Item]) -> None:
    client = Unreliable(elasticsearch, check=refused_whole(400, b"_id"))
    with pytest.raises(IndexUnavailable, match="refuses every bulk request"):
        send_through(client, items)
    with pytest.raises(IndexUnavailable, match="refuses every bulk request"):
        send_through(client, items[:1])


@pytest.mark.parametrize("status", [401, 403])
def test_a_request_without_the_privilege_is_an_error_and_no_refusal(
    elasticsearch: Elasticsearch, items: list[Item], status: int
) -> None:
    with pytest.raises(IndexUnavailable, match=str(status)):
        send_through(Unreliable(elasticsearch, answered(status)), items)


def test_a_fault_that_lies_in_no_document_is_an_error_and_no_refusal(
    elasticsearch: Elasticsearch, index: str, items: list[Item]
) -> None:
    elasticsearch.indices.put_settings(index=index, settings={"index.default_pipeline": "missing"})
    with pytest.raises(IndexUnavailable, match=r"pipeline with id \[missing\] does not exist"):
        send_through(elasticsearch, items)
    elasticsearch.indices.put_settings(index=index, settings={"index.default_pipeline": None})
    elasticsearch.indices.close(index=index)
    with pytest.raises(IndexUnavailable, match="index_closed_exception"):
        send_through(elasticsearch, items)


def test_a_privilege_that_is_revoked_for_some_documents_is_an_error_and_no_refusal(
    elasticsearch: Elasticsearch, items: list[Item]
) -> None:
    def revoked(answer: Any) -> Any:
        body = answer.body | {"errors": True}
        error = {"type": "security_exception", "reason": "action [indices:data/write/bulk[s]] is unauthorized"}
        body["items"][3] = {"index": {"status": 403, "error": error}}
        return body

    with pytest.raises(IndexUnavailable, match="security_exception"):
        send_through(Unreliable(elasticsearch, revoked), items)


def test_the_block_of_a_full_disk_is_named_and_waited_for(
    elasticsearch: Elasticsearch, index: str, items: list[Item], capsys: pytest.CaptureFixture[str]
) -> None:
    elasticsearch.indices.put_settings(index=index, settings={"index.blocks.read_only_allow_delete": True})

    def make_room(answer: Any) -> Any:
        elasticsearch.indices.put_settings(index=index, settings={"index.blocks.read_only_allow_delete": None})
        return answer.body

    assert send_through(Unreliable(elasticsearch, make_room), items) == []
    assert count(elasticsearch, index) == 10
    assert "read-only-allow-delete block" in capsys.readouterr().out


@pytest.fixture(params=[0, 4], ids=["none", "two_of_three"])
def without_shards(request: Any) -> Iterator[Elasticsearch]:
    """A server whose refresh misses shards: a real one answers so only after a minute, if a shard is nowhere."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer(b'{"_shards":{"total":6,"successful":%d,"failed":0}}' % request.param)

        def do_GET(self) -> None:
            self.answer(b'{"status":"red"}')

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            for name, value in (
                ("X-Elastic-Product", "Elasticsearch"),
                ("Content-Type", "application/vnd.elasticsearch+json;compatible-with=9"),
                ("Content-Length", str(len(body))),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Elasticsearch(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()
        thread.join()


def test_a_refresh_that_missed_a_shard_is_none(without_shards: Elasticsearch) -> None:
    with pytest.raises(IndexUnavailable, match="could not be refreshed"):
        indexes.refresh(without_shards, ["events"])
