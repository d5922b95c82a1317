"""Keys over HTTP: made, listed, replaced and taken back, by those who may."""

from __future__ import annotations

import time
from typing import Any

import pytest

AUDIT = "on"  # see the fixture world
ADMIN = ("admin", "read")


@pytest.fixture(scope="module")
def admin(world: Any) -> str:
    return str(world.make_key(*ADMIN))


def _make(world: Any, admin: str, **wanted: Any) -> Any:
    return world.service.ask("POST", "/key", wanted, key=admin)


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_key_is_made_used_replaced_and_taken_back(world: Any, admin: str) -> None:
    ask = world.service.ask
    answer = _make(
        world, admin, name="one", rights=["read"], where="component eq 'orders'", rate="900/s", expires="90d"
    )
    assert answer.status == 201, answer.body
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json
    assert made["key"].startswith(made["id"])
    _wait(lambda: ask("GET", "/event", key=made["key"]).status == 200)
    (listed,) = [key for key in ask("GET", "/key", key=admin).json if key["id"] == made["id"]]
    assert (listed["where"], listed["rate"], listed["state"]) == ("component eq 'orders'", "900/s", "good")
    assert "key" not in listed

    other = ask("POST", f"/key/{made['id']}/rotation", {"grace": "1d"}, key=admin)
    assert (other.status, other.json["name"], other.json["where"]) == (201, "one", "component eq 'orders'")
    assert ask("DELETE", f"/key/{made['id']}", key=admin).json == {"revoked": [made["id"]]}
    assert ask("DELETE", f"/key/{made['id']}", key=admin).status == 404
    _wait(lambda: ask("GET", "/event", key=made["key"]).status == 401)
    _wait(lambda: ask("GET", "/event", key=other.json["key"]).status == 200)
    _wait(lambda: world.fetch("SELECT 1 FROM event WHERE data ->> 'made' = %s", made["id"]))
    assert made["key"] not in str(world.fetch("SELECT data::text FROM event"))


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        ({"name": "no name", "rights": ["read"]}, "name"),
        ({"name": "two", "rights": []}, "rights"),
        ({"name": "two", "rights": ["read"], "rate": "many"}, "rate"),
        ({"name": "two", "rights": ["read"], "expires": "soon"}, "expires"),
        ({"name": "two", "rights": ["read"], "defaults": {"message": "m"}}, "defaults"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name_in_the_body(
    world: Any, admin: str, wanted: dict[str, Any], parameter: str
) -> None:
    answer = _make(world, admin, **wanted)
    assert (answer.status, answer.json["parameter"]) == (400, parameter)


def test_what_is_no_key_at_all_is_refused(world: Any, admin: str) -> None:
    assert _make(world, admin, name="two", rights=["everything"]).json["type"] == "/problems#invalid-body"
    assert _make(world, admin, name="two", rights=["read"], where="component is").json["type"] == (
        "/problems#invalid-query"
    )
    for identity in ("ev_00000000", "%00"):
        assert world.service.ask("POST", f"/key/{identity}/rotation", {}, key=admin).status == 404
        assert world.service.ask("DELETE", f"/key/{identity}", key=admin).status == 404


def test_a_key_for_a_part_of_the_log_makes_no_keys(world: Any) -> None:
    part = world.make_key(*ADMIN, where="component eq 'orders'")
    assert _make(world, part, name="more", rights=["read"]).status == 403
    assert world.service.ask("GET", "/key", key=part).status == 403
