"""Bulks are read before their transaction begins, and reading them ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from eventsvc.errors import InvalidEvents
from eventsvc.event import NewEvent
from eventsvc.log.connection import Connection
from eventsvc.log.write.bulk import BulkWriter

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


def _quick() -> Slow:
    quick = Slow(3)
    quick.go.set()
    return quick


def test_what_the_source_has_against_it_is_stored_by_nobody(database: str, connection: Connection) -> None:
    class Bad(Slow):
        def finish(self) -> None:
            raise InvalidEvents(())

    async def run() -> None:
        writer = BulkWriter(database, concurrency=1)
        bad = Bad(3)
        bad.go.set()
        with pytest.raises(InvalidEvents):
            await writer.store(bad)
        await writer.close()

    asyncio.run(run())
    assert fetch(connection, "SELECT count(*) FROM event") == [(0,)]


def test_reading_a_bulk_ends_at_its_time_limit(database: str, make_service: Any) -> None:
    service = make_service(database, EVENTSVC_BULK_SECONDS="0.01")
    body = b"\n".join([json.dumps(GOOD).encode()] * 50_000)
    answer = service.post(body, Content_Type=NDJSON)
    assert (answer.status, answer.json()["type"]) == (413, "/problems#too-large")
    assert "reading took longer than 0.01 s" in answer.json()["detail"]
    assert (service.post(GOOD).status, service.count()) == (201, 1)
