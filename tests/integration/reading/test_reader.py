"""The one statement: tail, watermark, and whether anything is under way."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest

from eventsvc.errors import EventNotFound, LogTimeout, LogUnavailable, SearchesQueued
from eventsvc.log.connection import connect, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.read.page import FoundQuestion, LogPage, PageQuestion
from eventsvc.log.read.reader import MOST_WAITING, Reader, _ask_found
from eventsvc.log.read.state import LogAnswer
from eventsvc.paging import PageRequest, Positions

ALL = Filter()

_POSITIONS = (
    "SELECT (extract(epoch FROM created_at) * 1000)::bigint, seq FROM event WHERE seq % 199 = 0 ORDER BY seq LIMIT 100"
)
_STORE_LATE = (
    "INSERT INTO event (id, email, environment, component, message, data)"
    " VALUES (gen_random_uuid(), 'a@b.c', 'e', 'c', 'late', '{}')"
)


def move_watermark(world: Any, seq: int) -> None:
    world.execute("UPDATE watermark SET seq = %s, checkpoint = %s", (seq, seq))


def test_an_event_is_found_by_its_id_as_it_was_stored(world: Any) -> None:
    world.store("hello", data='{"n": 12345678901234567890, "x": 1.50}')
    reader = world.reader()
    ((event_id,),) = world.execute("SELECT id FROM event")
    event = world.run(reader.by_id(event_id, Filter()))
    assert (event.message, event.data) == ("hello", '{"n": 12345678901234567890, "x": 1.50}')


def test_an_unknown_id_is_an_error_of_its_own(world: Any) -> None:
    with pytest.raises(EventNotFound):
        world.run(world.reader().by_id("00000000-0000-4000-8000-000000000000", Filter()))


def test_the_tail_is_what_lies_past_the_watermark_newest_first(world: Any) -> None:
    seqs = world.store(*"abcdef")
    move_watermark(world, seqs[3])
    rows = tail(world, world.reader(), PageQuestion(PageRequest(10, count=True)))
    assert ([event.message for event in rows.events], rows.total) == (["f", "e"], 2)


def tail(world: Any, reader: Any, question: Any) -> Any:
    return world.run(reader.tail(ALL, question, world.run(reader.state()))).content


def test_a_tail_is_left_out_only_if_no_event_can_lie_in_it(world: Any, database: str) -> None:
    seqs = world.store("a", "b")
    move_watermark(world, seqs[1])
    reader = world.reader()
    base = world.run(reader.state())

    def ask(*, anew: bool = False) -> tuple[bool, str]:
        """Whether the answer is about the earlier state, so that no tail was read, and the events."""
        answer = world.run(reader.tail(ALL, PageQuestion(PageRequest(10, count=True)), base, anew=anew))
        assert answer.content.total == len(answer.content.events)
        return answer.state is base, "".join(event.message for event in answer.content.events)

    assert (ask(anew=True), ask()) == ((False, ""), (True, ""))
    writer = connect(database)
    with transaction(writer) as cursor:
        cursor.execute(_STORE_LATE)
        assert ask() == (False, "")
    writer.close()
    assert ask() == (False, "late")
    world.execute("INSERT INTO index_failure VALUES (%s, '2026-11-01', 'test')", (seqs[0],))
    move_watermark(world, seqs[1] + 1)
    base = world.run(reader.state())
    assert ask() == (False, "a")


def test_events_that_the_index_refused_count_as_tail(world: Any) -> None:
    seqs = world.store(*"abcdef")
    move_watermark(world, seqs[4])
    world.execute("INSERT INTO index_failure VALUES (%s, '2026-11-01', 'test')", (seqs[1],))
    reader = world.reader()
    rows = tail(world, reader, PageQuestion(PageRequest(10, count=True)))
    assert ([event.message for event in rows.events], rows.total) == (["f", "b"], 2)
    world.execute("DELETE FROM index_failure")
    assert [event.message for event in tail(world, reader, PageQuestion(PageRequest(10))).events] == ["f"]


@pytest.mark.parametrize(("newest_first", "expected"), [(True, "fdb"), (False, "bdf")])
def test_the_events_that_the_index_has_found_come_in_order(world: Any, newest_first: bool, expected: str) -> None:  # noqa: FBT001
    world.store(*"abcdef")
    reader = world.reader()
    everything = world.run(reader.whole(ALL, PageQuestion(PageRequest(10)))).content.events
    found = positions_of([everything[place] for place in (0, 4, 2)])
    for routing in ({}, {"component": everything[0].component}, {"email": "nobody@example.com"}):
        question = FoundQuestion(PageRequest(10, newest_first=newest_first), found, routing)
        answer = world.run(reader.found(question))
        texts = "".join(event.message for event in answer.content)
        assert (texts, answer.settled) == ("" if "email" in routing else expected, False)
        assert answer.state == world.run(reader.state())
    world.execute("DELETE FROM event WHERE message = 'd'")
    assert len(world.run(reader.found(FoundQuestion(PageRequest(10), found, {}))).content) == 2
    assert world.run(reader.found(FoundQuestion(PageRequest(10), Positions(), {}))).content == ()


def test_an_event_of_any_year_is_found_at_its_position(world: Any) -> None:
    # The nanoseconds of occurredAt fit into 64 bits from 1677 to 2262.
    times = [-9_000_000_000_001, -1, 0, 1_790_000_000_123, 9_100_000_000_003, 9_223_372_036_853]
    for at in times:
        world.execute(
            "INSERT INTO event (id, created_at, email, environment, component, message, data) VALUES ("
            "gen_random_uuid(), timestamptz 'epoch' + %s * interval '1 hour' + %s * interval '1 ms',"
            " 'a@b.c', 'test', 'c', 'm', '{}')",
            divmod(at, 3_600_000),
        )
    reader = world.reader()
    everything = world.run(reader.whole(ALL, PageQuestion(PageRequest(10)))).content.events
    question = FoundQuestion(PageRequest(10), positions_of(everything), {})
    assert world.run(reader.found(question)).content == everything
    assert [event.created_at for event in everything] == times[::-1]


def positions_of(events: Any) -> Positions:
    return Positions(tuple(event.position for event in events), tuple(event.created_at for event in events))


def test_statements_that_are_planned_once_see_new_and_dropped_months(world: Any) -> None:
    """PostgreSQL plans them anew; the reader has one connection."""
    world.store("a")
    reader = world.reader()
    at = int(datetime(2031, 5, 5, tzinfo=UTC).timestamp() * 1000)
    question = FoundQuestion(PageRequest(10), Positions(((at, 99),), (at,)), {})
    for _ in range(7):  # after five executions PostgreSQL would choose another plan
        assert world.run(reader.found(question)).content == ()
    before = world.run(reader.state())
    world.execute("CREATE TABLE event_2031_05 PARTITION OF event FOR VALUES FROM ('2031-05-01') TO ('2031-06-01')")
    world.execute(
        "INSERT INTO event (seq, id, created_at, email, environment, component, message, data) OVERRIDING SYSTEM VALUE"
        " VALUES (99, gen_random_uuid(), '2031-05-05', 'a@b.c', 'test', 'c', 'late', '{}')"
    )
    answer = world.run(reader.found(question))
    assert [event.message for event in answer.content] == ["late"]
    assert not answer.state.has_the_events_of(before)
    world.execute("DROP TABLE event_2031_05")
    answer = world.run(reader.found(question))
    assert (answer.content, answer.state.layout) == ((), before.layout)


def test_a_moment_extends_an_earlier_one_while_the_index_says_the_same_of_it(world: Any) -> None:
    world.store(*"abcdef")
    move_watermark(world, 3)
    reader = world.reader()
    base = world.run(reader.state())
    for statement, extends in [
        ("UPDATE watermark SET seq = 5, checkpoint = 5", True),
        ("INSERT INTO index_failure VALUES (4, '2026-11-01', 'past the base')", True),
        ("INSERT INTO index_month (month, index_name, index_uuid) VALUES ('2026-11-01', 'b', 'x')", True),
        ("INSERT INTO index_failure VALUES (2, '2026-11-01', 'of the base')", False),
        ("DELETE FROM index_failure", True),
        ("UPDATE watermark SET seq = 2, checkpoint = 5", False),
        ("UPDATE watermark SET seq = 5, fence = 9", False),
        ("UPDATE watermark SET fence = 0; UPDATE erasure_epoch SET epoch = epoch + 1", False),
    ]:
        world.execute(statement)
        assert world.run(reader.state()).extends(base, most=10) is extends, statement
    assert not world.run(reader.state()).extends(base, most=1)


def test_pages_go_on_after_a_position_also_among_equal_times(world: Any) -> None:
    world.store(*"abcdefgh", at=1_700_000_000_123)
    reader = world.reader()
    for newest_first in (True, False):
        seen: list[str] = []
        after = None
        while rows := world.run(
            reader.whole(ALL, PageQuestion(PageRequest(3, after, newest_first=newest_first)))
        ).content.events:
            seen += [event.message for event in rows]
            after = rows[-1].position
        assert (list("hgfedcba") if newest_first else list("abcdefgh")) == seen


def test_the_moment_holds_all_that_a_merge_must_know(world: Any) -> None:
    seqs = world.store(*"abc")
    world.execute("INSERT INTO erased VALUES (%s, '2026-11-01')", (seqs[0],))
    world.execute("UPDATE erasure_epoch SET epoch = 7")
    world.execute("INSERT INTO index_month (month, index_name, index_uuid) VALUES ('2026-11-01', 'b', 'x')")
    world.execute("INSERT INTO index_month (month, index_name, index_uuid) VALUES ('2026-10-01', 'a', 'y')")
    world.execute("UPDATE watermark SET fence = 9")
    moment = world.run(world.reader().state())
    assert (9, 7, (seqs[0],), (), ("a", "b"), seqs[2]) == (
        moment.fence, moment.epoch, moment.erased, moment.refused, moment.indexes, moment.drawn,
    )  # fmt: skip


def test_nothing_is_settled_while_a_writer_is_under_way(world: Any, database: str) -> None:
    reader = world.reader()
    world.store("a")
    assert world.run(reader.whole(ALL, PageQuestion(PageRequest(1)))).settled
    late = connect(database)
    with late.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(_STORE_LATE)
        world.store("b")
        assert not world.run(reader.whole(ALL, PageQuestion(PageRequest(1)))).settled
        cursor.execute("COMMIT")
    late.close()
    rows = world.run(reader.whole(ALL, PageQuestion(PageRequest(9))))
    assert (True, {"a", "b", "late"}) == (rows.settled, {event.message for event in rows.content.events})


@pytest.mark.parametrize("seed", range(3))
def test_equal_states_mean_equal_answers_whatever_commits_late(world: Any, database: str, seed: int) -> None:
    """What ETags are made of: two settled answers with the same (drawn, epoch, layout) hold the same events."""
    numbers = random.Random(seed)
    reader = world.reader()
    writers = [connect(database) for _ in range(4)]
    open_ones: set[int] = set()
    answers: dict[Any, Any] = {}
    for _ in range(120):
        place = numbers.randrange(4)
        with writers[place].cursor() as cursor:
            if place in open_ones:
                open_ones.discard(place)
                cursor.execute(numbers.choice(["COMMIT", "ROLLBACK"]))
            elif numbers.random() < 0.6:
                open_ones.add(place)
                cursor.execute("BEGIN")
                cursor.execute(
                    "INSERT INTO event (id, email, environment, component, message, data)"
                    " VALUES (gen_random_uuid(), 'a@b.c', 'e', 'c', 'm', '{}')"
                )
        rows = world.run(reader.whole(ALL, PageQuestion(PageRequest(1000))))
        if rows.settled:
            state = (rows.state.drawn, rows.state.epoch, rows.state.layout)
            assert answers.setdefault(state, rows.content.events) == rows.content.events
    for writer in writers:
        writer.close()
    assert answers


def test_a_statement_that_takes_too_long_is_a_timeout(world: Any, database: str) -> None:
    reader = world.reader(statement_timeout=0.2)
    blocker = psycopg2.connect(database)
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LogTimeout):
            world.run(reader.whole(ALL, PageQuestion(PageRequest(1))))
    blocker.rollback()
    blocker.close()
    assert world.run(world.reader().whole(ALL, PageQuestion(PageRequest(1)))).content.events == ()


def test_a_server_that_is_away_is_said_to_be(world: Any) -> None:
    with pytest.raises(LogUnavailable):
        world.run(world.reader("postgresql://postgres@127.0.0.1:1/none").whole(ALL, PageQuestion(PageRequest(1))))


def explain(world: Any, reader: Any, ask: str) -> Any:
    """Give the plan of the statement by which the reader answers a question."""
    pool = reader._pool

    def plan(connection: Any) -> Any:
        statements: list[str] = []
        original = connection.cursor

        class Recorder(psycopg2.extensions.cursor):
            def execute(self, statement: Any, parameters: Any = None) -> None:
                statements.append(self.mogrify(statement, parameters).decode())
                super().execute(statement, parameters)

        connection.cursor_factory = Recorder
        try:
            if ask == "tail":
                reader._read(
                    connection, Filter("seq > 19900") & Filter("message = %s", ("m7",)), PageQuestion(PageRequest(100))
                )
            elif ask == "merged":
                times, seqs = zip(*world.execute(_POSITIONS), strict=True)
                positions = Positions(tuple((time, seq) for time, seq in zip(times, seqs, strict=True)), times)
                _ask_found(connection, FoundQuestion(PageRequest(100), positions, {}))
            else:
                reader._read(connection, ALL, PageQuestion(PageRequest(100)))
        finally:
            connection.cursor_factory = None
        with original() as cursor:
            cursor.execute("EXPLAIN (FORMAT JSON) " + statements[-1])
            return cursor.fetchall()[0][0]

    found = world.run(pool.run(plan))
    return json.loads(found) if isinstance(found, str) else found


def nodes(plan: Any) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def month(world: Any) -> str:
    """The only table that is not empty; the others may well be scanned."""
    return str(world.execute("SELECT DISTINCT tableoid::regclass::text FROM event")[0][0])


def fill(world: Any) -> None:
    world.execute(
        "INSERT INTO event (id, created_at, email, environment, component, message, data) SELECT gen_random_uuid(),"
        " date_trunc('month', now(), 'UTC') + i * interval '1 ms', 'a@b.c', 'e', 'c', 'm' || i, '{}'"
        " FROM generate_series(1, 20000) AS i"
    )
    world.execute("ANALYZE event")


def test_the_tail_is_read_by_the_index_on_seq_and_estimated_right(world: Any) -> None:
    fill(world)
    move_watermark(world, 19_900)
    for ask in ("tail", "merged"):
        found = nodes(explain(world, world.reader(), ask)[0]["Plan"])
        scans = [node for node in found if node.get("Relation Name") == month(world)]
        assert scans
        for node in scans:
            assert node["Node Type"] in ("Index Scan", "Bitmap Heap Scan"), node
        assert max(node["Plan Rows"] for node in scans) < 1000


def test_the_newest_page_is_read_backwards_along_the_index_on_time(world: Any) -> None:
    fill(world)
    found = nodes(explain(world, world.reader(), "whole")[0]["Plan"])
    backward = [node for node in found if node.get("Scan Direction") == "Backward"]
    assert backward
    assert not [n for n in found if n["Node Type"] == "Seq Scan" and n["Relation Name"] == month(world)]


def test_another_start_of_the_server_is_another_layout(world: Any, database: str) -> None:
    """After a restore or a failover equal seqs may stand for other events: no ETag may outlive it."""
    ((started,),) = world.execute("SELECT extract(epoch FROM pg_postmaster_start_time())::text")
    assert world.run(world.reader(database).state()).layout.endswith(f".{started}")


# A search with this filter is under way until the lock is given back.
SLOW = Filter("pg_advisory_xact_lock_shared(1) IS NOT NULL")


def test_slow_searches_of_the_whole_log_neither_hold_up_others_nor_queue_without_end(world: Any) -> None:
    """Two places, thirty that wait; the next one is refused, and a tail is read at once all the while."""
    reader = Reader(world.pool(size=1), whole=world.pool(size=2, statement_timeout=60.0))
    world.store("m")
    world.execute("SELECT pg_advisory_lock(1)")

    async def crowd() -> tuple[int, LogAnswer[LogPage]]:
        base = await reader.state()
        crowd = [asyncio.create_task(reader.whole(SLOW, PageQuestion(PageRequest(1)))) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(SearchesQueued):
            await reader.whole(Filter(), PageQuestion(PageRequest(1)))
        tail = await reader.tail(Filter(), PageQuestion(PageRequest(1)), base)
        unfinished = sum(not task.done() for task in crowd)
        for task in crowd:
            task.cancel()
        world.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.gather(*crowd, return_exceptions=True)
        return unfinished, tail

    unfinished, tail = world.run(crowd())

    assert unfinished == MOST_WAITING
    assert len(tail.content.events) == 1
    assert len(world.run(reader.whole(Filter(), PageQuestion(PageRequest(1)))).content.events) == 1


def test_large_pages_leave_connections_to_small_reads(world: Any) -> None:
    """Two connections: four large pages are read one after the other, and a small page does not wait for them."""
    reader = Reader(world.pool(size=2, statement_timeout=60.0))
    world.store("m")
    world.execute("SELECT pg_advisory_lock(1)")

    async def crowd() -> int:
        base = await reader.state()
        large = [
            asyncio.create_task(reader.tail(SLOW, PageQuestion(PageRequest(100)), base, large=True)) for _ in "1234"
        ]
        await asyncio.sleep(0)
        small = await reader.tail(Filter(), PageQuestion(PageRequest(1)), base)
        assert len(small.content.events) == 1
        unfinished = sum(not task.done() for task in large)
        world.execute("SELECT pg_advisory_unlock(1)")
        assert [len(answer.content.events) for answer in await asyncio.gather(*large)] == [1] * 4
        return unfinished

    assert world.run(crowd()) == 4
