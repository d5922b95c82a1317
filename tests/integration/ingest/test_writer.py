"""Group commit against a real PostgreSQL: shared transactions, and honest answers whatever breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from eventsvc.errors import CommitUnknown, EventsvcError, LogError, LogTimeout, LogUnavailable, WriteQueueFull
from eventsvc.event import Event, NewEvent
from eventsvc.log.connection import Connection
from eventsvc.log.write import group as group_module
from eventsvc.log.write.idempotency import IdempotencyKey, key_hash
from eventsvc.log.write.writer import Writer
from tests.integration.ingest.conftest import wait_until

T = TypeVar("T")
KEY = IdempotencyKey(key_hash("a key", ""), b"fingerprint")


def new(message: str = "m", data: bytes = b'{"a":1}') -> NewEvent:
    return NewEvent("a@example.com", "test", "writer", message, data)


def with_writer(dsn: str, work: Callable[[Writer], Awaitable[T]], *, queue_size: int = 10_000) -> T:
    async def run() -> T:
        writer = Writer(dsn, queue_size=queue_size)
        writer.start()
        try:
            return await work(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


async def append_all(writer: Writer, news: list[NewEvent]) -> list[Any]:
    return await asyncio.gather(*(writer.append(one) for one in news), return_exceptions=True)


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def test_events_that_arrive_together_share_a_transaction(database: str, connection: Connection) -> None:
    news = [new(f"event {number}") for number in range(500)]
    events: list[Event] = with_writer(database, lambda writer: append_all(writer, news))
    stored = rows(connection, "SELECT seq, id::text, message FROM event")
    assert sorted((event.seq, event.id, event.message) for event in events) == sorted(stored)
    assert [event.message for event in events] == [one.message for one in news]
    transactions = rows(connection, "SELECT count(DISTINCT xmin::text) FROM event")[0][0]
    assert transactions <= 20


def test_an_event_does_not_wait_for_a_group_that_is_under_way(database: str, connection: Connection) -> None:
    async def work(writer: Writer) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE idempotency_key IN ACCESS EXCLUSIVE MODE")  # only events with a key wait
            late = asyncio.create_task(writer.append(new("late"), KEY))
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'idempotency_key'::regclass AND NOT granted"
            await asyncio.to_thread(wait_until, lambda: rows(connection, waiting) != [(0,)], 60.0)
            outcomes = await append_all(writer, [new("early")])
            cursor.execute("COMMIT")
        return [*outcomes, await late]

    events: list[Event] = with_writer(database, work)
    assert [event.message for event in events] == ["early", "late"]


def test_the_answer_is_what_was_stored(database: str, connection: Connection) -> None:
    (event,) = with_writer(database, lambda writer: append_all(writer, [new(data=b'{"bb":1.50,"a":[1,{"x":null}]}')]))
    ((data, created_at),) = rows(
        connection, "SELECT data::text, (extract(epoch FROM created_at) * 1000)::bigint FROM event"
    )
    assert (event.data, event.created_at) == (data, created_at)
    assert abs(event.created_at - time.time() * 1000) < 60_000


def test_an_event_that_postgresql_refuses_does_not_fail_its_neighbours(database: str, connection: Connection) -> None:
    news = [new(f"event {number}") for number in range(64)]
    news[20] = new("poison", b'"\\u0000"')  # what validation would have refused
    outcomes = with_writer(database, lambda writer: append_all(writer, news))
    assert [isinstance(outcome, LogError) for outcome in outcomes] == [number == 20 for number in range(64)]
    assert rows(connection, "SELECT count(*) FROM event") == [(63,)]


def test_a_connection_that_broke_is_opened_again(database: str, connection: Connection) -> None:
    async def work(writer: Writer) -> list[Any]:
        before = await append_all(writer, [new()])
        writers = "pg_stat_activity WHERE application_name = 'eventsvc writer' AND datname = current_database()"
        rows(connection, f"SELECT pg_terminate_backend(pid) FROM {writers}")
        wait_until(lambda: rows(connection, f"SELECT count(*) FROM {writers}") == [(0,)])
        return before + await append_all(writer, [new()])

    assert [type(outcome) for outcome in with_writer(database, work)] == [Event, Event]
    assert rows(connection, "SELECT count(*) FROM event") == [(2,)]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_connection_lost_before_the_commit_stores_once(line: Any, connection: Connection, *, arrives: bool) -> None:
    """The group is written again, on a new connection: nothing of the old one can have been stored."""

    async def work(writer: Writer) -> Any:
        await append_all(writer, [new("first")])
        if arrives:
            line.cut_at = b"EXECUTE put"
        else:
            line.swallow_at = b"EXECUTE put"
        return await writer.append(new("second"), KEY)

    assert isinstance(with_writer(line.dsn, work), Event)
    assert rows(connection, "SELECT count(*) FROM event WHERE message = 'second'") == [(1,)]


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize(("key", "ends"), [(KEY, b"COMMIT"), (None, b"EXECUTE put")])
def test_a_connection_lost_during_the_commit_is_never_a_success(
    line: Any, connection: Connection, key: IdempotencyKey | None, ends: bytes, *, arrives: bool
) -> None:
    """Without a key the statement that stores the event is a transaction of its own."""

    async def work(writer: Writer) -> list[Any]:
        await append_all(writer, [new("first")])
        if arrives:
            line.cut_at = ends
        else:
            line.swallow_at = ends
        outcomes = await asyncio.gather(writer.append(new("second"), key), return_exceptions=True)
        return [*outcomes, *await append_all(writer, [new("third")])]

    unknown, after = with_writer(line.dsn, work)
    assert isinstance(unknown, CommitUnknown)
    assert isinstance(after, Event)
    count = "SELECT count(*) FROM event WHERE message = 'second'"
    wait_until(lambda: rows(connection, count) == [(int(arrives),)])


def test_without_postgresql_the_answer_is_quick(line: Any) -> None:
    async def work(writer: Writer) -> tuple[list[Any], float, list[Any]]:
        await append_all(writer, [new()])
        line.refusing = True
        line.cut()
        began = time.monotonic()
        outcomes = await append_all(writer, [new() for _ in range(100)])
        took = time.monotonic() - began
        line.refusing = False
        while isinstance((last := (await append_all(writer, [new()]))[0]), LogUnavailable):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return outcomes, took, last

    outcomes, took, last = with_writer(line.dsn, work)
    assert {type(outcome) for outcome in outcomes} == {LogUnavailable}
    assert took < 4.5  # less than any time-out
    assert isinstance(last, Event)


@pytest.mark.parametrize(("key", "says"), [(KEY, LogTimeout), (None, CommitUnknown)])
def test_a_postgresql_that_hangs_does_not_hang_the_writer(
    line: Any, monkeypatch: pytest.MonkeyPatch, key: IdempotencyKey | None, says: type[EventsvcError]
) -> None:
    monkeypatch.setattr(group_module, "_PATIENCE", 0.5)

    async def work(writer: Writer) -> Any:
        await append_all(writer, [new()])
        line.hanging.set()
        line.refusing = True
        began = time.monotonic()
        with pytest.raises(says):
            await writer.append(new(), key)
        assert time.monotonic() - began < 5

    with_writer(line.dsn, work)


def test_a_full_queue_refuses_and_what_was_accepted_is_stored(database: str, connection: Connection) -> None:
    async def work(writer: Writer) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
            tasks = [asyncio.create_task(writer.append(new(f"event {number}"))) for number in range(60)]
            await asyncio.wait(tasks, timeout=0.5)
            cursor.execute("COMMIT")
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = with_writer(database, work, queue_size=50)
    assert [type(outcome) for outcome in outcomes] == [Event] * 50 + [WriteQueueFull] * 10
    assert rows(connection, "SELECT count(*) FROM event") == [(50,)]


def test_stopping_writes_what_was_accepted(database: str, connection: Connection) -> None:
    async def run() -> list[Any]:
        writer = Writer(database, queue_size=10_000)
        writer.start()
        tasks = [asyncio.create_task(writer.append(new())) for _ in range(2_500)]
        await asyncio.sleep(0)
        await writer.close()
        with pytest.raises(EventsvcError, match="stopping"):
            await writer.append(new())
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(run())) == 2_500
    assert rows(connection, "SELECT count(*) FROM event") == [(2_500,)]


def test_a_client_that_goes_away_harms_nobody(database: str, connection: Connection) -> None:
    async def work(writer: Writer) -> Any:
        task = asyncio.create_task(writer.append(new("gone")))
        await asyncio.sleep(0)
        task.cancel()
        return (await append_all(writer, [new("here")]))[0]

    assert isinstance(with_writer(database, work), Event)
    assert rows(connection, "SELECT count(*) FROM event") == [(2,)]
