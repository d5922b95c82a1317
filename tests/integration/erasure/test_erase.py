"""Erased events are in no answer from the moment of the commit; nothing else disappears."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from eventsvc.erasure import erase
from eventsvc.errors import EventsHeld
from eventsvc.log.progress import erasures, watermark
from eventsvc.query.parse import parse

ORDER = {"email": "diego@chefhero.com", "environment": "production", "component": "orders"}


def send(api: Any, *messages: str, **changes: Any) -> list[str]:
    ids = []
    for message in messages:
        answer = api.post("/event", ORDER | {"message": message} | changes)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json["id"])
    return ids


def wanted(q: str, **more: Any) -> erase.ErasureRequest:
    return erase.ErasureRequest(parse(q, now=0), "asked for", "a test", **more)


@pytest.mark.usefixtures("indexer")
def test_erased_events_are_gone_from_every_answer_at_once(api: Any, log: Any, waiting: Any) -> None:
    """Both stores hold them, answers with them are kept, and a client has a cursor and an ETag."""
    ids = send(api, "secret one", "plain", "secret two", "plain too")
    log.wait_visible()
    assert api.find("message ct 'secret'") == ["secret two", "secret one"]
    page = api.get("/event", limit="1")
    etag = page.headers["etag"]

    done = api.erase("message ct 'secret'")

    assert (done.status_code, done.json["state"], done.json["count"], done.json["erased"]) == (200, "done", 2, 2)
    assert api.find("message ct 'secret'") == []
    assert api.find() == ["plain too", "plain"]
    assert [api.get(f"/event/{one}").status_code for one in ids] == [404, 200, 404, 200]
    assert api.get("/event/stats", q="message ct 'secret'").json["count"] == 0
    assert api.get("/event", limit="1", count="true").headers["x-total-count"] == "2"
    assert page.headers["etag"] == etag
    waiting(lambda: not log.fetch("SELECT FROM erased"))
    assert api.find("message ct 'secret'", consistency="eventual") == []


@pytest.mark.usefixtures("indexer")
def test_a_page_that_was_not_modified_before_is_modified_after_an_erasure(api: Any, log: Any) -> None:
    send(api, "one", "two")
    log.wait_visible()
    first = api.get("/event")
    api.erase("message eq 'one'")

    again = api._runner.run(api._conductor.simulate_get("/event", headers={"If-None-Match": first.headers["etag"]}))

    assert again.status_code == 200
    assert [event["message"] for event in again.json] == ["two"]


def test_a_repeated_request_whose_event_was_erased_is_gone(api: Any) -> None:
    body = ORDER | {"message": "once"}
    assert api.post("/event", body, **{"Idempotency-Key": "k-1"}).status_code == 201
    api.erase("message eq 'once'")

    assert api.post("/event", body, **{"Idempotency-Key": "k-1"}).status_code == 410
    assert api.find() == []


def test_a_dry_run_counts_and_erases_nothing(api: Any) -> None:
    send(api, "one", "two")

    said = api.erase("message eq 'one'", dryRun=True).json

    assert (said["dryRun"], said["count"], [month["count"] for month in said["months"]]) == (True, 1, [1])
    assert api.find() == ["two", "one"]
    assert api.get("/erasure").json == []


def test_an_erasure_is_recorded_without_content(api: Any, log: Any) -> None:
    send(api, "a secret")
    done = api.erase("message ct 'secret'").json

    (listed,) = api.get("/erasure").json
    assert listed == done == api.get(f"/erasure/{done['id']}").json
    assert listed["reason"] == "asked for"
    rows = log.fetch("SELECT erasure::text FROM erasure") + log.fetch("SELECT erased_id::text FROM erased_id")
    assert "secret" not in str(rows)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"q": "message ct 'x'"}, 400),
        ({"q": "message ct 'x'", "reason": " "}, 400),
        ({"q": "", "reason": "all"}, 400),
        ({"q": "message = 'x'", "reason": "r"}, 400),
        ({"q": "message ct 'x'", "reason": "r", "until": 1}, 400),
        ([], 400),
    ],
)
def test_a_request_that_makes_no_sense_erases_nothing(api: Any, body: Any, status: int) -> None:
    send(api, "x")

    answer = api.post("/erasure", body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert api.find() == ["x"]


def test_an_erasure_that_does_not_exist_is_a_problem(api: Any) -> None:
    for name in ("nonsense", "8e2c512e-0000-4000-8000-000000000000"):
        assert api.get(f"/erasure/{name}").status_code == 404


def test_a_large_erasure_goes_on_where_it_was_interrupted(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "AT_ONCE", 10)
    monkeypatch.setattr(erase, "BATCH", 7)
    log.insert(50, message="secret #%s")
    log.insert(5, message="plain #%s")
    begun = erase.begin(log.connection, wanted("message ct 'secret'"))
    assert (begun.finished_at, begun.counted, begun.erased) == (None, 50, 0)

    with closing(erase.run_all(log.connection)) as batches:
        assert next(batches) == 7
    halted = erasures.read(log.connection, begun.id)
    assert halted is not None
    assert halted.erased == 7
    assert sum(erase.run_all(log.connection)) == 43

    done = erasures.read(log.connection, begun.id)
    assert done is not None
    assert (done.erased, done.query, done.finished_at is None) == (50, None, False)
    assert log.fetch("SELECT count(*) FROM event") == [(5,)]
    assert log.fetch("SELECT count(*) FROM erased_id") == [(50,)]


@pytest.mark.parametrize(("options", "left"), [({"until_now": True}, 3), ({}, 0)])
def test_events_that_arrive_during_a_large_erasure(
    log: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], left: int
) -> None:
    """Those stored before the last pass begins go too, unless the erasure ends at what was there when it began."""
    monkeypatch.setattr(erase, "AT_ONCE", 10)
    monkeypatch.setattr(erase, "BATCH", 7)
    log.insert(20, message="secret #%s")
    erase.begin(log.connection, wanted("message ct 'secret'", **options))
    batches = erase.run_all(log.connection)
    next(batches)
    log.insert(3, message="a late secret")
    list(batches)

    assert log.fetch("SELECT count(*) FROM event") == [(left,)]


def test_two_processes_do_not_go_on_with_the_same_erasure(log: Any, stores: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    log.insert(5)
    erase.begin(log.connection, wanted("component eq 'orders'"))
    first = erase.run_all(log.connection)
    next(first)

    assert list(erase.run_all(stores.connection)) == []
    list(first)
    assert log.fetch("SELECT count(*) FROM event") == [(0,)]


def test_a_hold_keeps_its_events_and_an_erasure_names_it(api: Any, log: Any) -> None:
    send(api, "claim 7", "claim 8", "chat")
    erasures.put_hold(log.connection, "lawsuit", "message ct 'claim'", "a lawsuit")

    refused = api.erase("email eq 'diego@chefhero.com'")

    assert refused.status_code == 409
    assert refused.json["holds"] == [{"hold": "lawsuit", "count": 2}]
    assert len(api.find()) == 3
    assert api.erase("message eq 'chat'").json["erased"] == 1
    assert erasures.release_hold(log.connection, "lawsuit")
    assert api.erase("email eq 'diego@chefhero.com'").json["erased"] == 2


def test_a_hold_made_during_a_large_erasure_keeps_what_is_left(log: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    monkeypatch.setattr(erase, "BATCH", 5)
    log.insert(20)
    erase.begin(log.connection, wanted("component eq 'orders'"))
    batches = erase.run_all(log.connection)
    next(batches)
    erasures.put_hold(log.connection, "all", "component eq 'orders'", "stop")
    list(batches)

    assert log.fetch("SELECT count(*) FROM event") == [(15,)]
    with pytest.raises(EventsHeld, match=r"all \(15\)"):
        erase.begin(log.connection, wanted("component eq 'orders'"))


def test_without_an_index_nothing_waits_to_be_removed_from_it(log: Any, make_api: Any) -> None:
    with make_api(elasticsearch_url="") as api:
        send(api, "x")
        assert api.erase("message eq 'x'").json["erased"] == 1
    assert log.fetch("SELECT count(*) FROM erased") == [(0,)]


def test_a_query_with_every_kind_of_value_can_be_kept_and_read_again(log: Any, monkeypatch: Any) -> None:
    """A large erasure keeps its query as text: what it erases is the same as what was asked for."""
    monkeypatch.setattr(erase, "AT_ONCE", 0)
    q = "data.a in (1, 'x\\'%', null) AND createdAt gte '2018-1-1' AND NOT message ct '%_\\\\'"
    log.insert(1, data={"a": "x'%"})
    log.insert(1, data={"a": 1}, message="%_\\")
    erase.begin(log.connection, wanted(q))

    assert sum(erase.run_all(log.connection)) == 1
    assert json.dumps(log.fetch("SELECT data FROM event")) == json.dumps([['{"a": 1}']])


def test_an_event_whose_month_has_no_index_yet_is_remembered_while_a_leader_runs(log: Any, stores: Any) -> None:
    """The leader may have read the event before it was erased, and write its document afterwards."""
    log.insert(1)
    assert watermark.try_lead(stores.connection)
    assert log.fetch("SELECT count(*) FROM index_month") == [(0,)]

    erase.begin(log.connection, wanted("component eq 'orders'"))

    assert log.fetch("SELECT count(*) FROM erased") == [(1,)]
