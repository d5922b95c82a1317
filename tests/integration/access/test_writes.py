"""What a key does to the events that are sent with it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from eventsvc.access.rights import AUDIT_COMPONENT

EVENT = {"email": "a@b.c", "environment": "test", "component": "orders", "message": "hello", "data": {}}


def _send(world: Any, key: str, *events: Any, **query: str) -> Any:
    body: Any = b"\n".join(json.dumps(event).encode() for event in events)
    headers = {"Content-Type": "application/x-ndjson"} if len(events) > 1 else {}
    return world.service.ask("POST", "/event", body, key=key, headers=headers, **query)


def test_an_event_outside_is_not_stored_alone_nor_in_a_bulk(world: Any) -> None:
    key = world.make_key("write", "read", where="component eq 'orders'")
    ((before,),) = world.fetch("SELECT count(*) FROM event")
    outside = EVENT | {"component": "secrets"}

    answers = [
        _send(world, key, outside),
        _send(world, key, EVENT, outside),
        _send(world, key, EVENT, outside, dryRun="true"),
    ]
    assert [403] * 3 == [answer.status for answer in answers]
    assert world.fetch("SELECT count(*) FROM event") == [(before,)]
    assert _send(world, key, EVENT).status == 201
    partial = _send(world, key, outside, EVENT, partial="true")
    assert (partial.json["count"], partial.json["errors"][0]["line"]) == (1, 1)
    assert world.fetch("SELECT count(*) FROM event") == [(before + 2,)]


def test_defaults_fill_what_is_missing(world: Any) -> None:
    key = world.make_key(
        "write", where="component eq 'orders'", defaults={"component": "orders", "environment": "live"}
    )

    one = _send(world, key, {"email": "a@b.c", "message": "m"}).json
    assert (one["component"], one["environment"], one["data"]) == ("orders", "live", None)
    assert _send(world, key, {"email": "a@b.c", "message": "m"}, {"email": "a@b.c", "message": "n"}).status == 201
    assert _send(world, key, {"email": "a@b.c", "message": "m", "component": "secrets"}).status == 403
    assert _send(world, key, {"email": "a@b.c"}).status == 422


def test_a_record_of_any_shape_passes_the_same_gate(world: Any) -> None:
    """The URL's defaults come before those of the key, and neither leads out of the restriction."""
    key = world.make_key("write", "read", where="component eq 'orders'", defaults={"email": "k@b.c"})
    record = {"msg": "m", "level": "error"}
    url = {"shape": "any", "environment": "live"}

    assert world.service.ask("POST", "/event", record, key=key, **url).json["parameter"] == "component"
    inside = _send(world, key, record, component="orders", **url)
    assert (inside.status, inside.json["count"]) == (200, 1)
    ((email, data),) = world.fetch("SELECT email, data FROM event WHERE id = %s", inside.json["firstId"])
    assert (email, json.loads(data)) == ("k@b.c", {"level": "error"})

    ((before,),) = world.fetch("SELECT count(*) FROM event")
    mine = record | {"component": "orders"}
    several = _send(world, key, record, mine, component="secrets", **url).json
    assert (several["count"], several["rejected"], several["errors"][0]["line"]) == (1, 1, 1)
    assert "may not store" in several["errors"][0]["detail"]
    outside = [
        _send(world, key, record, component="secrets", partial="false", **url),
        _send(world, key, {"logs": [record]}, component="secrets", partial="false", **url),
        _send(world, key, record | {"component": "secrets"}, component="orders", partial="false", **url),
        _send(world, key, record, component=AUDIT_COMPONENT, partial="false", **url),
    ]
    assert [403] * 4 == [answer.status for answer in outside]
    assert world.fetch("SELECT count(*) FROM event") == [(before + 1,)]


def test_the_defaults_of_a_key_are_enough_for_any_shape(world: Any) -> None:
    defaults = {"email": "k@b.c", "environment": "live", "component": "orders"}
    key = world.make_key("write", defaults=defaults)

    stored = _send(world, key, {"msg": "m", "component": 7}, shape="any", email="url@b.c").json["firstId"]
    ((*fields, data),) = world.fetch("SELECT email, environment, component, data FROM event WHERE id = %s", stored)
    assert fields == ["url@b.c", "live", "orders"]
    assert json.loads(data) == {"component": 7}


def test_two_clients_never_meet_by_their_idempotency_keys(world: Any) -> None:
    keys = [world.make_key("write", "read", where="component eq 'orders'") for _ in range(2)]
    headers = {"Idempotency-Key": "the-same"}

    first, again = (world.service.ask("POST", "/event", EVENT, key=keys[0], headers=headers) for _ in range(2))
    other = world.service.ask("POST", "/event", EVENT, key=keys[1], headers=headers)
    assert first.json == again.json
    assert other.status == 201
    assert other.json["id"] != first.json["id"]


def test_nobody_without_the_right_forges_the_audit(world: Any) -> None:
    key = world.make_key("read", "write")

    assert _send(world, key, EVENT | {"component": AUDIT_COMPONENT}).status == 403


def test_an_erasure_reaches_no_further_than_its_key(world: Any) -> None:
    where = "component eq 'erasable'"
    inside, everywhere = world.make_key("erase", where=where), world.make_key("erase", "read", "write", "audit")
    mark = uuid.uuid4().hex
    for component in ("erasable", "erasable", "kept"):
        assert _send(world, everywhere, EVENT | {"message": mark, "component": component}).status == 201
    body = {"q": f"message eq '{mark}'", "reason": "test"}

    preview = world.service.ask("POST", "/erasure", body | {"dryRun": True}, key=inside).json
    done = world.service.ask("POST", "/erasure", body, key=inside)
    left = world.service.ask("GET", "/event", key=everywhere, q=f"message eq '{mark}'").json
    other = world.service.ask("POST", "/erasure", body, key=everywhere).json

    assert (preview["count"], done.status, done.json["erased"]) == (2, 200, 2)
    assert ["kept"] == [event["component"] for event in left]
    seen = world.service.ask("GET", "/erasure", key=inside).json
    assert {done.json["id"]} == {one["id"] for one in seen}
    assert world.service.ask("GET", f"/erasure/{other['id']}", key=inside).status == 404
    assert world.service.ask("GET", f"/erasure/{other['id']}", key=everywhere).json["askedBy"] == other["askedBy"] != ""


def test_the_audit_is_not_erased_without_its_right(world: Any) -> None:
    eraser, auditor = world.make_key("erase"), world.make_key("write", "read", "audit")
    assert _send(world, auditor, EVENT | {"component": AUDIT_COMPONENT}).status == 201
    q = f"component eq '{AUDIT_COMPONENT}'"

    answer = world.service.ask("POST", "/erasure", {"q": q, "reason": "to hide"}, key=eraser)

    assert (answer.status, answer.json["erased"]) == (200, 0)
    assert world.service.ask("GET", "/event", key=auditor, q=q).json != []
