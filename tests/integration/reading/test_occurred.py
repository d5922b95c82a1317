"""orderBy=occurredAt: the order of what happened, whichever store answers, while late events arrive."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from eventsvc.index.reader import IndexReader
from eventsvc.log.read.page import PageQuestion
from eventsvc.log.read.reader import _AHEAD
from eventsvc.paging import PageRequest
from tests.integration.reading.test_pages import relation

SECOND = 1_000_000_000
START = 1_790_000_000  # seconds


def walk(api: Any, response: Any) -> list[dict[str, Any]]:
    """Give the events of the pages that follow."""
    found = []
    while target := relation(response, "next"):
        response = api("GET", "/event", **dict(parse_qsl(target.partition("?")[2])))
        found += response.json
    return found


def store_some(world: Any, chance: random.Random, count: int, name: str) -> None:
    """Events that happened at about the same time as others, stored over three months, some without saying when."""
    for number in range(count):
        at = (START + chance.randrange(90) * 86_400) * 1000
        occurred = (START + chance.randrange(-20, 20)) * SECOND + chance.choice([0, 0, 1, 999_999_999])
        world.store(f"{name} {number}", at=at, occurred=chance.choice([None, occurred, occurred]))


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_what_was_there_once_and_in_order_while_late_events_arrive(world: Any, api: Any, order: str) -> None:
    chance = random.Random(order)
    store_some(world, chance, 40, "old")
    world.index_all()
    store_some(world, chance, 10, "old")
    response = api("GET", "/event", orderBy="occurredAt", order=order, limit=7)
    store_some(world, chance, 20, "late")
    events = response.json + walk(api, response)
    assert sorted(event["message"] for event in events if event["message"].startswith("old")) == sorted(
        f"old {number}" for number in (*range(40), *range(10))
    )
    assert len({event["id"] for event in events}) == len(events)
    times = [event["occurredAt"].removesuffix("Z").ljust(29, "0") for event in events]
    assert times == sorted(times, reverse=order == "desc")
    late = [event for event in events if event["message"].startswith("late")]
    stored = [f"late {number}" for number in range(20)]
    # As the documentation says: those that happened beyond the last event of the first page are met on the way.
    last = response.json[-1]["occurredAt"]
    everything = api("GET", "/event", limit=1000).json
    beyond = [
        e["message"] for e in everything if (e["occurredAt"] > last) == (order == "asc") and e["message"] in stored
    ]
    assert sorted(beyond) == sorted(event["message"] for event in late)


@pytest.mark.parametrize("count", [True, False])
def test_all_ways_to_an_answer_have_the_same_order(world: Any, *, count: bool) -> None:
    chance = random.Random(1)
    store_some(world, chance, 60, "m")
    world.index_all()
    searches = [world.search(), world.search(cache=1_000_000), world.search(index=False)]
    store_some(world, chance, 15, "m")
    for newest_first in (True, False):
        after = None
        while True:
            options = {"after": after, "newest_first": newest_first, "time": "occurredAt", "count": count}
            answers = [world.find(search, limit=9, **options) for search in searches]
            assert {(answer.events, answer.end, answer.total) for answer in answers} == {
                (answers[0].events, answers[0].end, 75 if count else None)
            }
            after = answers[0].end
            if after is None:
                break


class Counting:
    """A client that counts searches, and lets something happen after the first one."""

    def __init__(self, reader: IndexReader) -> None:
        self._client, self.searches = reader._client, 0
        self.action: Callable[[], Awaitable[None]] | None = None
        reader._client = self  # type: ignore[assignment]

    async def msearch(self, **options: Any) -> Any:
        answer = await self._client.msearch(**options)
        self.searches += 1
        if self.action is not None:
            action, self.action = self.action, None
            await action()
        return answer


def watch(search: Any) -> Counting:
    return Counting(search._stores._index)


def test_one_search_of_the_index_is_enough_while_no_clock_is_far_ahead(world: Any) -> None:
    """Senders are up to five seconds late, and one sender's clock is half a second ahead."""
    chance = random.Random(3)
    for number in range(60):
        occurred = (START + number) * SECOND + chance.choice([-5 * SECOND, -SECOND, 0, SECOND // 2])
        world.store(f"m {number}", at=(START + number) * 1000, occurred=occurred)
    world.index_all()
    search = world.search()
    client = watch(search)
    expected = [
        seq
        for (seq,) in world.execute(
            "SELECT seq FROM event ORDER BY event_occurred(occurred_at, created_at) DESC, seq DESC"
        )
    ]
    found: list[int] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = world.find(search, limit=10, time="occurredAt", after=after)
        found, after, pages = [*found, *(event.seq for event in page.events)], page.end, pages + 1
    assert found == expected
    assert (pages, client.searches) == (6, 6)
    # One event of long ago whose sender's clock was a day ahead.
    world.store("ahead", at=(START + 5) * 1000, occurred=(START + 86_405) * SECOND)
    world.index_all()
    search = world.search()
    client = watch(search)
    page = world.find(search, limit=10, time="occurredAt")
    assert [event.seq for event in page.events] == [61, *expected[:9]]
    assert client.searches == 2


def test_the_log_knows_how_far_a_clock_was_ahead(world: Any) -> None:
    reader = world.reader()
    assert world.run(reader.ahead()) == 0
    world.store("late", at=START * 1000, occurred=(START - 9) * SECOND)
    world.store("without", at=START * 1000)
    assert world.run(reader.ahead()) == 0
    for nanoseconds in (1, SECOND + 5, SECOND):
        world.store("ahead", at=(START + 40 * 86_400) * 1000, occurred=(START + 40 * 86_400) * SECOND + nanoseconds)
    assert world.run(reader.ahead()) == SECOND + 5
    world.execute("SET enable_seqscan = off")
    plan = "\n".join(line for (line,) in world.execute("EXPLAIN " + _AHEAD.statement.as_string(world.connection)))
    world.execute("RESET enable_seqscan")
    assert "event_20" in plan
    assert "Seq Scan" not in plan
    assert "Limit" in plan  # PostgreSQL reads one entry of the index of each month


def test_a_page_is_whole_though_events_go_while_it_is_looked_for(world: Any) -> None:
    seqs = [world.store("m", occurred=(START + number) * SECOND)[0] for number in range(20)]
    world.index_all()
    search = world.search()
    client = watch(search)

    async def lose() -> None:
        for index in await client._client.indices.get(index=f"{world.settings.index_prefix}-v*"):
            lost = await client._client.search(index=index, query={"terms": {"seq": seqs[-3:]}}, source=False)
            deletes = [{"delete": {"_index": index, "_id": hit["_id"]}} for hit in lost["hits"]["hits"]]
            if deletes:
                await client._client.bulk(operations=deletes, refresh=True)

    client.action = lose
    answer = world.find(search, limit=5, time="occurredAt")
    assert [event.seq for event in answer.events] == seqs[16:11:-1]
    assert client.searches == 3


def test_an_eventual_answer_of_several_pages_is_in_order(world: Any) -> None:
    store_some(world, random.Random(2), 200, "m")
    world.index_all()
    answer = world.find(world.search(), strong=False, time="occurredAt")
    places = [event.occurred_position for event in answer.events]
    assert len(places) == 200
    assert places == sorted(places, reverse=True)


def test_a_cursor_is_bound_to_its_order(world: Any, api: Any) -> None:
    world.store("a", "b", "c", occurred=START * SECOND)
    for own, other in (("occurredAt", "createdAt"), ("createdAt", "occurredAt")):
        response = api("GET", "/event", limit=1, orderBy=own)
        cursor = dict(parse_qsl((relation(response, "next") or "").partition("?")[2]))["cursor"]
        assert api("GET", "/event", limit=1, orderBy=other, cursor=cursor).status_code == 400
        assert api("GET", "/event", limit=1, orderBy=own, cursor=cursor).status_code == 200
    assert "createdAt or occurredAt" in api("GET", "/event", orderBy="seq").json["detail"]


def test_a_stream_of_lines_is_in_order(world: Any, api: Any) -> None:
    store_some(world, random.Random(3), 30, "m")
    answer = api(
        "GET", "/event", {"Accept": "application/x-ndjson"}, orderBy="occurredAt", order="asc", fields="occurredAt"
    )
    times = [line.rstrip("}").rstrip('"').removesuffix("Z").ljust(45, "0") for line in answer.text.splitlines()]
    assert len(times) == 30
    assert times == sorted(times)


def test_the_newest_are_read_by_an_index_of_the_log(world: Any) -> None:
    world.execute(
        "INSERT INTO event (id, created_at, email, environment, component, message, data, occurred_at)"
        " SELECT gen_random_uuid(), date_trunc('month', now(), 'UTC') + n * interval '1 ms',"
        " 'a@b.c', 'test', 'c', 'm', '{}', 1790000000000000000 + 7919 * n % 100000 FROM generate_series(1, 20000) AS n"
    )
    world.execute("ANALYZE event")
    for wanted in (
        PageQuestion(PageRequest(10, time="occurredAt")),
        PageQuestion(PageRequest(10, (1_790_000_000_000_050_000, 5), time="occurredAt")),
    ):
        ((statement, parameters),) = wanted.compose(world.compiled("").log)
        text = statement.as_string(world.connection)
        plan = str(world.execute("EXPLAIN " + text, parameters))
        assert "Index Scan" in plan
        assert "Seq Scan on event_20" not in plan
    condition = world.compiled("occurredAt lt '2026-09-21T14:13:20.000001Z'").log
    plan = str(world.execute(f"EXPLAIN SELECT * FROM event WHERE {condition.text}", list(condition.parameters)))
    ((month,),) = world.execute("SELECT DISTINCT tableoid::regclass::text FROM event")
    assert f"Scan on {month}_event_occurred_seq_idx" in plan
