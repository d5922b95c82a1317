"""Bulks are read before their transaction begins, or quickly meanwhile; and reading them ends."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from eventsvc.errors import InvalidEvents
from eventsvc.event import NewEvent
from eventsvc.log.connection import Connection
from eventsvc.log.write import bulk_writer
from eventsvc.log.write.bulk_writer import BulkWriter

NDJSON = "application/x-ndjson"
GOOD = {"email": "ops@example.com", "environment": "test", "component": "bulk", "message": "good"}
_WRITING = "SELECT count(*) FROM pg_locks WHERE relation = 'event'::regclass AND mode = 'RowExclusiveLock'"


class Slow:
    """A source whose last event comes when it is let go."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.reading, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[NewEvent]:
        for number in range(self._count):
            if number == self._count - 1:
                self.reading.set()
                assert self.go.wait(30)
            yield NewEvent("a@example.com", "test", "bulk", f"event {number}", b'{"a":1}')

    def finish(self) -> None:
        """Have nothing against it."""

    def fingerprint(self) -> bytes:
        return b"slow"


def fetch(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture
def quick_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read without a stop counts as quick, however slow the machine is."""
    monkeypatch.setattr(bulk_writer, "_QUICK", 30.0)


def test_no_transaction_is_open_while_a_bulk_is_read(database: str, connection: Connection) -> None:
    """The horizon, and so the index and every stream, waits for a transaction that writes."""

    async def run() -> Any:
        writer = BulkWriter(database, concurrency=1)
        slow = Slow(20_000)
        task = asyncio.create_task(writer.store(slow, b"k" * 32))
        await asyncio.to_thread(slow.reading.wait, 30)
        assert fetch(connection, _WRITING) == [(0,)]
        small = await asyncio.wait_for(writer.store(_quick(), small=True), 30)  # overtakes it
        slow.go.set()
        stored = await task
        again = Slow(1)
        again.go.set()
        replayed = await writer.store(again, b"k" * 32)
        await writer.close()
        return small, stored, replayed

    small, stored, replayed = asyncio.run(run())
    assert (small.count, stored.count, replayed.replayed) == (3, 20_000, True)
    assert [replayed.id(n) for n in (0, 19_999)] == [stored.id(n) for n in (0, 19_999)]
    rows = fetch(connection, "SELECT id::text, message FROM event WHERE data <> 'null' ORDER BY seq OFFSET 3")
    assert rows == [(stored.id(number), f"event {number}") for number in range(20_000)]
    times = fetch(connection, "SELECT DISTINCT (extract(epoch FROM created_at) * 1000)::bigint FROM event ORDER BY 1")
    assert [stamp for (stamp,) in times] == [small.created_at, stored.created_at]


def _quick(count: int = 3) -> Slow:
    quick = Slow(count)
    quick.go.set()
    return quick


@pytest.mark.usefixtures("quick_enough")
def test_a_bulk_is_copied_while_it_is_read_but_not_for_long(database: str, connection: Connection) -> None:
    """A reading that is quick at first and then stops holds the horizon up for three seconds at most."""

    async def run() -> Any:
        writer = BulkWriter(database, concurrency=1)
        slow = Slow(20_000)
        task = asyncio.create_task(writer.store(slow))
        await asyncio.to_thread(wait_for, connection, 1)
        await asyncio.to_thread(wait_for, connection, 0)
        small = await asyncio.wait_for(writer.store(_quick(), small=True), 30)
        slow.go.set()
        stored = await task
        await writer.close()
        return small, stored

    small, stored = asyncio.run(run())
    assert (small.count, stored.count) == (3, 20_000)
    rows = fetch(connection, "SELECT id::text, message FROM event WHERE data <> 'null' ORDER BY seq OFFSET 3")
    assert rows == [(stored.id(number), f"event {number}") for number in range(20_000)]


def test_a_bulk_that_is_read_quickly_is_copied_once(database: str, connection: Connection) -> None:
    async def run() -> Any:
        writer = BulkWriter(database, concurrency=2)
        stored = await asyncio.gather(*(writer.store(_quick(20_000)) for _ in range(4)))
        await writer.close()
        return stored

    for stored in asyncio.run(run()):
        ids = fetch(
            connection,
            "SELECT array_agg(id::text ORDER BY seq) FROM event WHERE created_at = to_timestamp"
            f"({stored.created_at} / 1000.0) AND id = ANY('{{{','.join(map(stored.id, range(20_000)))}}}')",
        )
        assert ids == [([stored.id(number) for number in range(20_000)],)]
    assert fetch(connection, "SELECT count(*) FROM event") == [(80_000,)]


@pytest.mark.usefixtures("quick_enough")
@pytest.mark.parametrize("count", [3, 20_000])
def test_a_bulk_that_is_bad_at_its_end_is_stored_by_nobody(database: str, connection: Connection, count: int) -> None:
    class Bad(Slow):
        def finish(self) -> None:
            raise InvalidEvents(())

    async def run() -> None:
        writer = BulkWriter(database, concurrency=1)
        bad = Bad(count)
        task = asyncio.create_task(writer.store(bad))
        await asyncio.to_thread(bad.reading.wait, 30)
        if count > 3:
            await asyncio.to_thread(wait_for, connection, 1)
        bad.go.set()
        with pytest.raises(InvalidEvents):
            await task
        assert (await writer.store(_quick())).count == 3  # its connection goes on
        await writer.close()

    asyncio.run(run())
    assert fetch(connection, "SELECT count(*) FROM event") == [(3,)]


@pytest.mark.usefixtures("quick_enough")
def test_a_bulk_whose_client_went_away_leaves_nothing(database: str, connection: Connection) -> None:
    async def run() -> None:
        writer = BulkWriter(database, concurrency=1)
        slow = Slow(20_000)
        task = asyncio.create_task(writer.store(slow))
        await asyncio.to_thread(wait_for, connection, 1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        slow.go.set()
        assert (await asyncio.wait_for(writer.store(_quick()), 30)).count == 3
        await writer.close()

    asyncio.run(run())
    assert fetch(connection, "SELECT count(*) FROM event") == [(3,)]


def wait_for(connection: Connection, transactions: int) -> None:
    """Wait until so many transactions write."""
    deadline = time.monotonic() + 30
    while fetch(connection, _WRITING) != [(transactions,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reading_a_bulk_ends_at_its_time_limit(database: str, make_service: Any) -> None:
    service = make_service(database, EVENTSVC_BULK_SECONDS="0.01")
    body = b"\n".join([json.dumps(GOOD).encode()] * 50_000)
    answer = service.post(body, Content_Type=NDJSON)
    assert (answer.status, answer.json()["type"]) == (413, "/problems#too-large")
    assert "reading took longer than 0.01 s" in answer.json()["detail"]
    assert (service.post(GOOD).status, service.count()) == (201, 1)
