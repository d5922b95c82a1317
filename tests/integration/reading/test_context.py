"""An event between its neighbours."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from eventsvc.query import ast
from eventsvc.search.context import Neighbours
from eventsvc.search.search import compile_query

START = 1_790_000_000_000


def fill(world: Any) -> list[Any]:
    """Store events of which many share a millisecond, half of them out of the index; give all in order."""
    numbers = random.Random(3)
    for place in range(120):
        world.store(
            f"m{place}",
            at=START + numbers.randrange(30),
            component=numbers.choice(["a", "b"]),
            email=numbers.choice(["x@y.z", "u@y.z"]),
        )
        if place == 60:
            world.index_all()
    return list(reversed(world.find(world.search(index=False)).events))


def same(event: Any, *names: str) -> ast.Node | None:
    parts = [ast.Equal(ast.Name(name), ast.Text(getattr(event, name))) for name in names]
    return ast.conjunction(parts) if parts else None


@pytest.mark.parametrize("names", [(), ("component",), ("component", "email")])
def test_neighbours_are_those_that_a_scan_of_all_events_finds(world: Any, names: tuple[str, ...]) -> None:
    events = fill(world)
    numbers = random.Random(4)
    for index in (True, False):
        reader = world.reader()
        neighbours = Neighbours(reader, world.search(reader, index=index))
        for event in numbers.sample(events, 12):
            before, after = numbers.choice([(0, 3), (3, 0), (5, 5), (200, 200), (1, 1)])
            alike = [e for e in events if all(getattr(e, name) == getattr(event, name) for name in names)]
            place = alike.index(event)
            query = compile_query(same(event, *names))
            context = world.run(neighbours.of(event, query, before=before, after=after))
            assert tuple(alike[max(0, place - before) : place]) == context.before
            assert tuple(alike[place + 1 : place + 1 + after]) == context.after
            assert (place > before, len(alike) - place - 1 > after) == (context.more_before, context.more_after)


def test_links_lead_to_every_event_once(world: Any, api: Any) -> None:
    world.store(*(f"m{number}" for number in range(25)), at=START)
    middle = api("GET", "/event", q="message eq 'm12'").json[0]
    response = api("GET", f"/event/{middle['id']}/context", before=4, after=4, same="component")
    seen = [*response.json["before"], response.json["event"], *response.json["after"]]
    for relation in ("prev", "next"):
        link = response.headers["link"]
        while found := re.search(rf'<([^>]*)>; rel="{relation}"', link):
            path, _, query = found[1].partition("?")
            further = api("GET", path, **dict(pair.split("=") for pair in query.split("&")))
            seen = [*further.json["before"], *seen, *further.json["after"]]
            link = further.headers.get("link", "")
    assert [f"m{number}" for number in range(25)] == [event["message"] for event in seen]


def test_neighbours_share_values_at_a_place_in_data(world: Any, api: Any) -> None:
    """By type and to the last digit; one of several values is enough, and none is like none."""
    large = 7_190_000_000_000_000_789
    values: list[Any] = [large, large + 1, [large, "a"], "a", str(large), None, True, {"x": 1}, [], [None, 2.50]]
    for number, value in enumerate(values):
        world.store(str(number), data=json.dumps({"t": value, "o": {"k k": number % 2}}))
    world.store("none", data="{}")
    world.index_all()
    ids = {event["message"]: event["id"] for event in api("GET", "/event").json}

    def around(name: str, same: str) -> set[str]:
        answer = api("GET", f"/event/{ids[name]}/context", same=same).json
        return {event["message"] for event in (*answer["before"], *answer["after"])}

    assert [around(name, "data.t") for name in ("0", "1", "2", "3", "4", "5", "6", "8")] == [
        *({"2"}, set(), {"0", "3"}, {"2"}, set(), {"9"}, set(), {"none"}),
    ]
    assert around("0", "component, data.o.'k k'") == {"2", "4", "6", "8"}
    refused = api("GET", f"/event/{ids['7']}/context", same="data.t")
    assert (refused.status_code, "an object" in refused.json["detail"]) == (400, True)


def test_an_erased_event_is_nobodys_neighbour(world: Any, api: Any) -> None:
    seqs = world.store("a", "b", "c")
    world.index_all()
    ids = [event["id"] for event in api("GET", "/event", order="asc").json]
    world.execute("DELETE FROM event WHERE seq = %s", (seqs[1],))
    world.execute(
        "WITH gone AS (INSERT INTO erased (seq, month) VALUES (%s, date_trunc('month', now())))"
        " UPDATE erasure_epoch SET epoch = epoch + 1",
        (seqs[1],),
    )
    for parameters in ({}, {"same": "component,environment"}):
        answer = api("GET", f"/event/{ids[0]}/context", **parameters).json
        assert ["c"] == [event["message"] for event in answer["after"]]
        assert api("GET", f"/event/{ids[1]}/context", **parameters).status_code == 404


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("00000000-0000-4000-8000-000000000000", {}, 404),
        ("nonsense", {}, 404),
        ("{id}", {"before": "501"}, 400),
        ("{id}", {"same": "id"}, 400),
        ("{id}", {"behind": "3"}, 400),
        ("{id}", {"fields": "id,message", "same": "email, email"}, 200),
    ],
)
def test_what_cannot_be_asked_is_refused(
    world: Any, api: Any, path: str, parameters: dict[str, str], status: int
) -> None:
    world.store("m", at=START)
    (event,) = api("GET", "/event").json
    answer = api("GET", f"/event/{path.format(id=event['id'])}/context", **parameters)
    assert (status, answer.json.get("status", 200)) == (answer.status_code, status)
