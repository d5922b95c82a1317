"""Index and tail as one answer; PostgreSQL alone when the index cannot give a whole one."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import urllib.request
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from eventsvc.errors import IndexUnavailable, LogTimeout, LogUnavailable
from eventsvc.event import format_time
from eventsvc.index.reader import Scope
from eventsvc.log.connection import connect
from eventsvc.log.filter import Filter
from eventsvc.log.months import MONTH
from eventsvc.log.read.page import PageQuestion
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PageRequest
from eventsvc.search.both_stores import Source
from eventsvc.search.search import Page

DEAD = "postgresql://postgres@127.0.0.1:1/none"


def messages(answer: Any) -> list[str]:
    return [event.message for event in answer.events]


def request(world: Any, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    url = f"{world.settings.elasticsearch_url}/{path}"
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as response:
        return json.load(response)


def index_of(world: Any) -> str:
    return str(world.execute("SELECT index_name FROM index_month")[0][0])


def test_an_answer_holds_both_sides_in_order(world: Any) -> None:
    world.store("one buyer", "two", "three buyers")
    world.index_all()
    world.store("four buyers", "five")
    search = world.search()
    answer = world.find(search, "message ct 'BUYER'", count=True)
    assert (messages(answer), answer.total) == (["four buyers", "three buyers", "one buyer"], 3)
    assert answer.provenance.source == Source.INDEX_AND_TAIL
    assert messages(world.find(search, "message ct 'buyer'", 2, newest_first=False)) == ["one buyer", "three buyers"]


def test_old_events_that_come_late_lie_where_their_time_says(world: Any) -> None:
    now = 1_790_000_000_000
    world.store("b", at=now)
    world.index_all()
    world.store("a", at=now - 5)
    world.store("c", at=now + 5)
    search = world.search()
    assert messages(world.find(search, "environment eq 'test'")) == ["c", "b", "a"]
    assert messages(world.find(search, "environment eq 'test'", 2)) == ["c", "b"]


def test_pages_hold_each_event_once_across_both_sides(world: Any) -> None:
    numbers = random.Random(1)
    times = [1_790_000_000_000 + numbers.randrange(20) for _ in range(60)]
    for moment in times[:40]:
        world.store("m", at=moment)
    world.index_all()
    for moment in times[40:]:
        world.store("m", at=moment)
    search = world.search()
    for newest_first in (True, False):
        seen, after, more = [], None, True
        while more:
            page = world.find(search, "message eq 'm'", 7, after=after, newest_first=newest_first)
            seen += [event.position for event in page.events]
            after, more = page.end, page.end is not None
        assert sorted(seen, reverse=newest_first) == seen
        assert 60 == len(set(seen)) == len(seen)


def test_what_the_index_refused_is_found_and_never_twice(world: Any) -> None:
    seqs = world.store("a", "b", "c")
    world.index_all()
    # Refused once, taken later: it is in the index, and the note of the refusal is still there.
    world.execute("INSERT INTO index_failure VALUES (%s, '2026-11-01', 'test')", (seqs[1],))
    answer = world.find(world.search(), "environment eq 'test'", count=True)
    assert (messages(answer), answer.total) == (["c", "b", "a"], 3)


def test_an_erased_event_is_gone_at_once(world: Any) -> None:
    seqs = world.store(*"abcdef")
    world.index_all()
    search = world.search(cache=1_000_000)
    assert len(world.find(search, "environment eq 'test'").events) == 6
    erase(world, seqs[4])
    for strong in (True, False):
        answer = world.find(search, "environment eq 'test'", 3, count=True, strong=strong)
        assert (messages(answer), answer.total) == (["f", "d", "c"], 5)


def erase(world: Any, seq: int) -> None:
    world.execute(
        f"BEGIN; INSERT INTO erased SELECT seq, {MONTH} FROM event WHERE seq = %s;"
        " DELETE FROM event WHERE seq = %s; UPDATE erasure_epoch SET epoch = epoch + 1; COMMIT",
        (seq, seq),
    )


def test_tail_and_index_joined_in_one_snapshot_lose_and_double_no_rows_while_the_indexer_flushes(world: Any) -> None:
    """The trap that other stores were in for years: rows on their way from one side to the other."""
    database = world.settings.database_url.get_secret_value()
    stop, lock = threading.Event(), threading.Lock()
    acknowledged: list[str] = []

    def write(number: int) -> None:
        connection = connect(database)
        count = 0
        with connection.cursor() as cursor:
            while not stop.is_set():
                names = [f"w{number}-{count + place}" for place in range(5)]
                count += 5
                cursor.execute(
                    "INSERT INTO event (id, email, environment, component, message, data)"
                    " SELECT gen_random_uuid(), 'a@b.c', 'race', 'c', name, '{}' FROM unnest(%s) AS name",
                    (names,),
                )
                with lock:
                    acknowledged.extend(names)
                time.sleep(0.005)
        connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    search = world.search(cache=10_000_000)
    sources: set[str] = set()
    with world.indexing():
        for writer in writers:
            writer.start()
        try:
            world.wait_until(lambda: world.watermark() > 0)
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                with lock:
                    expected = list(acknowledged)
                answer = world.find(search, "environment eq 'race'", 100_000 if len(expected) < 9000 else 9000)
                sources.add(answer.provenance.source)
                found = messages(answer)
                assert len(found) == len(set(found))
                if answer.end is None:
                    assert set(expected) <= set(found)
        finally:
            stop.set()
            for writer in writers:
                writer.join()
    assert Source.INDEX_AND_TAIL in sources


@pytest.mark.parametrize("seed", range(2))
def test_a_kept_answer_with_a_fresh_tail_equals_the_answer_without_a_cache(world: Any, seed: int) -> None:
    numbers = random.Random(seed)
    texts = ["message ct 'a'", "environment eq 'test'", "component eq 'x' OR message sw 'b'"]
    reader = world.reader()
    kept, plain = world.search(reader, cache=1_000_000), world.search(reader)
    used = set()
    for _ in range(25):
        action = numbers.random()
        if action < 0.5:
            world.store(*(numbers.choice("abc") * 3 for _ in range(numbers.randrange(1, 4))))
        elif action < 0.6:
            world.index_all()
        elif action < 0.7:
            erase_any(world, numbers)
        for text in texts:
            wanted: dict[str, Any] = {"count": True, "newest_first": numbers.random() < 0.7}
            limit = numbers.choice([1, 3, 50])
            ours, theirs = world.find(kept, text, limit, **wanted), world.find(plain, text, limit, **wanted)
            sql = world.run(reader.whole(world.compiled(text).log, PageQuestion(PageRequest(limit, **wanted))))
            used.add(ours.provenance.source)
            assert (theirs.events, theirs.end, theirs.total) == (ours.events, ours.end, ours.total)
            assert (sql.content.events, sql.content.total) == (ours.events, ours.total)
    assert {Source.INDEX_AND_TAIL, Source.CACHE_AND_TAIL} <= used


def erase_any(world: Any, numbers: random.Random) -> None:
    seqs = [seq for (seq,) in world.execute("SELECT seq FROM event ORDER BY seq")]
    if seqs:
        erase(world, numbers.choice(seqs))


def test_a_missing_index_sends_the_search_to_postgresql(world: Any) -> None:
    world.store("a", "b")
    world.index_all()
    request(world, "DELETE", index_of(world))
    answer = world.find(world.search(), "environment eq 'test'", count=True)
    assert (messages(answer), answer.total) == (["b", "a"], 2)
    assert (answer.provenance.source, answer.provenance.reason) == (Source.SQL, "index away")


def test_a_shard_that_is_nowhere_sends_the_search_to_postgresql(world: Any) -> None:
    """A month whose shard is not assigned: the others would answer, in part."""
    world.store("a", at=1_790_000_000_000)
    world.store("b", at=1_795_000_000_000)
    world.index_all()
    red = f"{world.settings.index_prefix}-red"
    settings = {"index.routing.allocation.require._name": "nowhere", "number_of_shards": 1, "number_of_replicas": 0}
    request(world, "PUT", f"{red}?wait_for_active_shards=0&timeout=1s", {"settings": settings})
    world.execute("INSERT INTO index_month (month, index_name, index_uuid) VALUES ('2020-01-01', %s, 'x')", (red,))
    answer = world.find(world.search(), "environment eq 'test'")
    assert (messages(answer), answer.provenance.source) == (["b", "a"], Source.SQL)


def test_a_closed_index_sends_the_search_to_postgresql(world: Any) -> None:
    world.store("a")
    world.index_all()
    request(world, "POST", f"{index_of(world)}/_close")
    answer = world.find(world.search(), "environment eq 'test'")
    assert (messages(answer), answer.provenance.source) == (["a"], Source.SQL)


def test_an_index_that_hangs_costs_its_time_out_once_and_is_used_again_when_it_is_back(world: Any) -> None:
    world.store("a")
    world.index_all()
    proxy = world.proxy_to_elasticsearch()
    search = world.search(elasticsearch=proxy.url, timeout=0.5)
    world.wait_until(lambda: world.find(search, "message eq 'a'").provenance.source == Source.INDEX_AND_TAIL)
    proxy.hanging.set()
    first = time.monotonic()
    assert world.find(search, "message eq 'a'").provenance.source == Source.SQL
    second = time.monotonic()
    for _ in range(5):
        answer = world.find(search, "message eq 'a'")
        assert (messages(answer), answer.provenance.reason) == (["a"], "index away")
    assert time.monotonic() - second < 5 * 0.5
    assert second - first > 0.4
    proxy.hanging.clear()
    world.wait_until(lambda: world.find(search, "message eq 'a'").provenance.source == Source.INDEX_AND_TAIL)


def test_an_index_that_refuses_connections_is_asked_again_at_once(world: Any) -> None:
    world.store("a")
    world.index_all()
    answer = world.find(world.search(elasticsearch="http://127.0.0.1:1"), "message eq 'a'")
    assert (messages(answer), answer.provenance.source) == (["a"], Source.SQL)


def test_without_an_index_postgresql_answers_and_says_why(world: Any) -> None:
    world.store("a")
    answer = world.find(world.search(index=False), "message eq 'a'")
    assert (
        messages(answer), answer.provenance.source, answer.provenance.reason,
    ) == (["a"], Source.SQL, "no index")  # fmt: skip


def test_with_both_too_slow_the_error_says_that_it_is_time(world: Any) -> None:
    reader = world.reader(statement_timeout=0.2)
    blocker = psycopg2.connect(world.settings.database_url.get_secret_value())
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LogTimeout):
            world.find(world.search(reader, elasticsearch="http://127.0.0.1:1"), "message eq 'a'")
    blocker.close()


def test_without_postgresql_eventual_reads_are_answered_and_strong_ones_refused(world: Any) -> None:
    world.store("a")
    world.index_all()
    search = world.search(world.reader(DEAD))
    answer = world.find(search, "message eq 'a'", strong=False, count=True)
    assert (messages(answer), answer.total, answer.provenance.source) == (["a"], 1, Source.INDEX)
    with pytest.raises(LogUnavailable):
        world.find(search, "message eq 'a'")


def test_eventual_reads_leave_the_tail_out(world: Any) -> None:
    world.store("a")
    world.index_all()
    world.store("b")
    assert messages(world.find(world.search(), "environment eq 'test'", strong=False)) == ["a"]


def test_numbers_read_alike_from_the_index_and_from_the_log(world: Any) -> None:
    world.store("m", data='{"a": 10000000000000000.0, "b": 1e16, "c": 1.5e-7, "d": 0.1, "e": [-2.5e20, 1e300]}')
    world.index_all()
    search = world.search()
    (strong,), (eventual,) = (world.find(search, "message eq 'm'", strong=strong).events for strong in (True, False))
    ((stored,),) = world.execute("SELECT data::text FROM event")
    assert (eventual.data, strong.data) == (stored, stored)


def test_hundreds_of_months_fit_into_one_request(world: Any) -> None:
    world.store("a")
    world.index_all()
    stores = world.both_stores()
    name = index_of(world)
    wanted = PageRequest(10)
    everything: dict[str, Any] = {"match_all": {}}
    positions = world.run(stores._index.positions(Scope((name,) * 400, 10), everything, wanted))
    assert len(positions.found) == 1
    missing = tuple(f"{name}-{number}" for number in range(400))
    with pytest.raises(IndexUnavailable, match="404"):
        world.run(stores._index.positions(Scope((name, *missing), 10), everything, wanted))


class Spy:
    """A reader that notes at which watermarks tails begin, and may fail once."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.begun: list[int] = []
        self.failure: Exception | None = None

    async def tail(self, matching: Any, question: Any, base: Any, **options: Any) -> Any:
        self.begun.append(base.watermark)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return await self._reader.tail(matching, question, base, **options)

    async def found(self, *args: Any, **options: Any) -> Any:
        return await self._reader.found(*args, **options)

    async def state(self) -> Any:
        return await self._reader.state()


def test_a_kept_answer_that_is_too_old_is_dropped_before_its_tail_is_read(world: Any) -> None:
    """It once was read first: a rare question stayed slow, or timed out, for as long as the answer was kept."""
    world.store("a")
    world.index_all()
    spy = Spy(world.reader())
    search = world.search(spy, cache=1_000_000)
    assert messages(world.find(search, "message eq 'a'")) == ["a"]
    world.store(*("b" for _ in range(3_000)))
    world.index_all()
    world.find(search, "message eq 'x'")  # what the worker sees of the log while others ask
    spy.begun.clear()
    for source in (Source.INDEX_AND_TAIL, Source.CACHE_AND_TAIL):
        answer = world.find(search, "message eq 'a'")
        assert (messages(answer), answer.provenance.source) == (["a"], source)
    assert min(spy.begun) == world.watermark()


def test_a_kept_answer_whose_tail_times_out_is_dropped(world: Any) -> None:
    world.store("a")
    world.index_all()
    spy = Spy(world.reader())
    search = world.search(spy, cache=1_000_000)
    world.find(search, "message eq 'a'")
    spy.failure = LogTimeout("too slow")
    with pytest.raises(LogTimeout):
        world.find(search, "message eq 'a'")
    assert world.find(search, "message eq 'a'").provenance.source == Source.INDEX_AND_TAIL


def test_what_the_log_lacks_is_left_out_and_the_next_page_begins_where_it_should(world: Any) -> None:
    """As after the log was restored to an older state, which nobody told the index."""
    seqs = world.store(*"abcdefgh")
    world.index_all()
    world.execute("DELETE FROM event WHERE seq = ANY (%s)", ([seqs[6], seqs[5], seqs[4], seqs[3], seqs[1]],))
    search, seen, after = world.search(), [], None
    for _ in range(9):
        page = world.find(search, "environment eq 'test'", 2, after=after)
        seen += messages(page)
        after = page.end
        if after is None:
            break
    assert seen == ["h", "c", "a"]


@pytest.mark.parametrize("how", [{}, {"index": False}, {"strong": False}])
def test_a_page_ends_at_a_number_of_bytes(world: Any, how: dict[str, Any]) -> None:
    world.store(*(f"m{number}" for number in range(30)), data=json.dumps({"x": "y" * 10_000}))
    world.index_all()
    if how.get("strong", True):
        world.store(*(f"m{number}" for number in range(30, 60)), data=json.dumps({"x": "y" * 10_000}))
    search = world.search(page_bytes=100_000, index=how.get("index", True))
    seen, sizes, after = [], [], None
    while True:
        page = world.find(search, "environment eq 'test'", 40, after=after, count=True, strong=how.get("strong", True))
        seen += messages(page)
        sizes.append(len(page.events))
        after = page.end
        if after is None:
            break
    assert seen == [f"m{number}" for number in range(page.total)][::-1]
    assert max(sizes) == 9


def test_a_page_of_100_events_does_not_wait_behind_heavy_queries(world: Any) -> None:
    parts = [f"data.trace ct 'abcd{number}'" for number in range(40)]
    normal, twenty, heavy = (world.compiled(" OR ".join(some)) for some in (parts[:10], parts[:20], parts))
    assert [query.is_heavy for query in (normal, twenty, heavy)] == [False, True, True]  # twenty: for the index
    reader = Reader(world.pool(size=2), whole=world.pool(size=2, statement_timeout=60.0))
    search = world.search(reader)
    slow = Filter("pg_advisory_xact_lock_shared(1) IS NOT NULL")
    heavy = replace(heavy, log=slow & heavy.log)
    world.store("m1")
    world.index_all()
    world.store("m2")
    world.execute("SELECT pg_advisory_lock(1)")

    async def crowd() -> tuple[Page, int]:
        many = [asyncio.create_task(search.find(heavy, PageRequest(100))) for _ in range(9)]
        await asyncio.sleep(0)
        page = await asyncio.wait_for(search.find(world.compiled("component eq 'orders'"), PageRequest(100)), 20)
        waiting = sum(not task.done() for task in many)
        world.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.gather(*many)
        return page, waiting

    page, waiting = world.run(crowd())

    assert (messages(page), waiting) == (["m2", "m1"], 9)


def test_one_event_larger_than_a_page_is_a_page(world: Any) -> None:
    world.store(*"ab", data=json.dumps({"x": "y" * 60_000}))
    world.index_all()
    page = world.find(world.search(page_bytes=1000), "environment eq 'test'")
    assert (messages(page), page.end) == (["b"], page.events[0].position)


@pytest.mark.parametrize("newest_first", [True, False])
def test_postgresql_alone_gives_the_first_page_of_a_query_that_only_bounds_createdat(
    world: Any,
    newest_first: bool,  # noqa: FBT001
) -> None:
    start = 1_790_000_000_000
    for number in range(9):
        world.store(str(number), at=start + number % 7)
    world.index_all()
    world.store("9", at=start + 1)
    search, without = world.search(), world.search(index=False)
    begin, end = f"createdAt gte '{format_time(start + 1)}'", f"createdAt lt '{format_time(start + 5)}'"
    for text in (begin, end, f"{begin} AND {end}"):
        sources: list[Source] = []
        after, upto = None, None
        while not sources or after is not None:
            options: dict[str, Any] = {"newest_first": newest_first, "after": after, "upto": upto}
            ours, theirs = (world.find(one, text, limit=2, **options) for one in (search, without))
            assert (ours.events, ours.end) == (theirs.events, theirs.end)
            assert ours.provenance.reason == ""
            sources.append(ours.provenance.source)
            after, upto = ours.end, 10
        assert sources == [Source.LOG] + [Source.INDEX_AND_TAIL] * (len(sources) - 1)
        assert len(sources) > 2
    both = f"{begin} AND component eq 'orders'"
    for text, options in ((begin, {"count": True}), ("", {}), (begin, {"time": "occurredAt"}), (both, {})):
        page = world.find(search, text, newest_first=newest_first, **options)
        assert page.provenance.source == Source.INDEX_AND_TAIL, text
    # An index that is away changes nothing for such a page.
    request(world, "DELETE", index_of(world))
    assert world.find(search, begin, limit=2, newest_first=newest_first).provenance.reason == ""
