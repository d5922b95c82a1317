"""The log over several servers; see conftest.py for what these tests need."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Any

import pytest

from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.errors import EventGone, KeyRunning, SetupError
from eventsvc.event import Event, NewEvent
from eventsvc.index.client import connect_async
from eventsvc.index.reader import IndexReader
from eventsvc.log import citus, months, trigram_index
from eventsvc.log.connection import Pool, connect, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.progress import erased
from eventsvc.log.progress.horizon import Horizon
from eventsvc.log.read.reader import Reader
from eventsvc.log.write import idempotency
from eventsvc.log.write.bulk_writer import BulkWriter
from eventsvc.log.write.group import GroupStore, Single
from eventsvc.paging import PageRequest
from eventsvc.query.parse import parse
from eventsvc.search.both_stores import BothStores
from eventsvc.search.search import Search, compile_query


def new(number: int, environment: str = "single") -> NewEvent:
    return NewEvent("a@b.c", environment, f"c{number}", f"message {number}", b'{"n":%d,"s":"\'\\\\%%"}' % number, None)


def count(log: Any, environment: str) -> int:
    return int(log.fetch("SELECT count(*) FROM event WHERE environment = %s", environment)[0][0])


def test_what_was_there_before_is_spread_over_the_workers(log: Any, cluster: Any) -> None:
    assert count(log, "before") == 100
    assert log.fetch("SELECT count(*) FROM ONLY event_default") == [(0,)]
    on_workers = log.fetch(
        "SELECT count(DISTINCT nodeport) FROM citus_shards WHERE table_name::text LIKE 'event%%' AND shard_size > 16384"
    )
    assert on_workers == [(len(cluster.workers),)]


def test_a_second_run_changes_nothing_and_another_column_is_refused(log: Any) -> None:
    assert len(list(citus.distribute(log.connection, citus.Distribution("component", 8)))) == 2
    with pytest.raises(SetupError, match="by component over 8 shards already"):
        list(citus.distribute(log.connection, citus.Distribution("email", 8)))


def test_a_group_of_single_events_is_stored_and_answered_in_its_order(log: Any, database: str) -> None:
    async def store() -> list[Any]:
        group = GroupStore(database)
        try:
            return [
                *await group.store([Single(new(n, "group"), None) for n in range(20)]),
                *await group.store([Single(new(20, "group"), None)]),
            ]
        finally:
            group.close()

    stored = asyncio.run(store())
    assert [event.message for event in stored] == [f"message {n}" for n in range(21)]
    assert all(isinstance(event, Event) for event in stored)
    rows = log.fetch("SELECT id::text, seq, data FROM event WHERE environment = 'group'")
    assert {event.id: (event.seq, event.data) for event in stored} == {row[0]: row[1:] for row in rows}
    assert len({event.seq for event in stored}) == 21


def test_months_made_later_are_spread_too_with_what_waits_in_the_default_partition(log: Any) -> None:
    log.insert(7, at="'2031-05-05'", message="late %s")
    assert months.count_default(log.connection) == 7
    assert months.empty_default(log.connection) == [date(2031, 5, 1)]
    assert (months.count_default(log.connection), count_message(log, "late")) == (0, 7)
    assert log.fetch("SELECT citus_table_type FROM citus_tables WHERE table_name::text = 'event'") == [("distributed",)]
    assert log.fetch(
        "SELECT partmethod::text FROM pg_dist_partition WHERE logicalrelid = 'event_2031_05'::regclass"
    ) == [("h",)]
    months.drop_partition(log.connection, date(2031, 5, 1))
    assert count_message(log, "late") == 0


def count_message(log: Any, word: str) -> int:
    return int(log.fetch("SELECT count(*) FROM event WHERE event_fold(message) LIKE %s", f"%{word}%")[0][0])


def test_trigram_indexes_are_built_on_the_workers(log: Any) -> None:
    assert trigram_index.enable(log.connection)
    assert trigram_index.enabled(log.connection)
    assert count_message(log, "buyer") >= 100
    trigram_index.disable(log.connection)


def test_the_horizon_waits_for_what_a_worker_has_still_to_commit(log: Any, cluster: Any) -> None:
    """As after a worker died between the two phases of a commit: the coordinator's lock is gone."""
    (seq,) = log.insert(1)
    ((table, port),) = log.fetch(
        "SELECT shard_name, nodeport FROM citus_shards WHERE table_name = 'event'::regclass ORDER BY shardid LIMIT 1"
    )
    number = [worker_port for _, worker_port in cluster.workers].index(port)
    horizon = Horizon(log.connection)
    with prepared(cluster, number, table):
        assert [horizon.poll() for _ in range(3)] == [0, 0, 0]
    assert horizon.poll() >= seq


def test_an_event_and_its_key_are_committed_in_two_phases(log: Any, database: str) -> None:
    """Else the key, which lies on the coordinator, could be lost alone, and a retry would store the event again."""
    log.fetch("DELETE FROM pg_dist_transaction")
    assert isinstance(store(database, Single(new(1), key("two phases"))), Event)
    assert log.fetch("SELECT count(*) FROM pg_dist_transaction") == [(1,)]


def test_an_event_is_deleted_and_its_erasure_recorded_in_two_phases(log: Any, cluster: Any) -> None:
    """Else the record, which lies on the coordinator, could be lost alone, and the document would stay in the index.

    The statement names no shard, so Citus asks all workers, by one or several connections to each of them, and commits
    in two phases.
    """
    log.insert(1, message="to be erased %s")
    event = Filter("message LIKE 'to be erased%%'", ())
    found = erased.find(log.connection.cursor(), event, after=0, upto=2**62, limit=1)
    log.fetch("DELETE FROM pg_dist_transaction")
    with transaction(log.connection) as cursor:
        assert erased.erase(cursor, found, erasure_id=str(uuid.uuid4())) == 1
    assert log.fetch("SELECT count(DISTINCT groupid) FROM pg_dist_transaction") == [(len(cluster.workers),)]


def store(database: str, single: Single) -> Any:
    async def ask() -> Any:
        group = GroupStore(database)
        try:
            (outcome,) = await group.store([single])
            return outcome
        finally:
            group.close()

    return asyncio.run(ask())


def key(name: str) -> idempotency.IdempotencyKey:
    return idempotency.IdempotencyKey(idempotency.key_hash(name), b"fingerprint")


class NoEvents:
    """A bulk request that was sent before."""

    def __iter__(self) -> Any:
        return iter(())

    def finish(self) -> None:
        pass

    def fingerprint(self) -> bytes:
        return b"fingerprint"


def store_bulk(database: str, name: str) -> Any:
    async def ask() -> Any:
        writer = BulkWriter(database, concurrency=1)
        try:
            return await writer.store(NoEvents(), idempotency.key_hash(name), small=True)
        finally:
            await writer.close()

    return asyncio.run(ask())


def test_a_retry_waits_while_a_worker_has_still_to_commit(log: Any, cluster: Any, database: str) -> None:
    """The key is there, but the events are not: they may be prepared on a worker that was lost during the COMMIT."""
    kept = {key(name).hash: idempotency.Kept(b"fingerprint", b"seed", 1, 0) for name in ("single", "bulk")}
    log.fetch(idempotency.KEEP, idempotency.write_kept(kept))
    with prepared(cluster, 0):
        assert isinstance(store(database, Single(new(1), key("single"))), KeyRunning)
        with pytest.raises(KeyRunning):
            store_bulk(database, "bulk")
    assert isinstance(store(database, Single(new(1), key("single"))), EventGone)
    assert store_bulk(database, "bulk").replayed


@contextmanager
def prepared(cluster: Any, number: int, table: str = "pg_class") -> Iterator[None]:
    """A transaction that has locked a table on a worker, and is prepared there."""
    with closing(connect(cluster.worker(number))) as worker, worker.cursor() as cursor:
        name = f"test_{uuid.uuid4().hex}"
        cursor.execute("SET citus.enable_manual_changes_to_shards TO on")
        cursor.execute("BEGIN")
        cursor.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        cursor.execute(f"PREPARE TRANSACTION '{name}'")
        try:
            yield
        finally:
            cursor.execute(f"ROLLBACK PREPARED '{name}'")


def test_index_searches_erasing_and_verify(
    log: Any, stores: Stores, run_indexer: Any, waiting: Any, database: str
) -> None:
    with run_indexer():
        log.insert(50, message="indexed buyer %s")
        log.wait_visible()
    log.insert(3, message="tail buyer %s")  # past the watermark
    assert find(stores, database, "message ct 'D BUYER' OR message ct 'L buyer'") == 53
    with run_indexer():
        found = erased.find(log.connection.cursor(), Filter("message LIKE 'tail%%'", ()), after=0, upto=2**62, limit=10)
        with log.connection.cursor() as cursor:
            assert erased.erase(cursor, found, erasure_id=str(uuid.uuid4())) == 3
        waiting(lambda: erased.count_erased(log.connection) == 0)
        log.wait_visible()
    assert find(stores, database, "message ct 'D BUYER' OR message ct 'L buyer'") == 50
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def find(stores: Stores, database: str, text: str) -> int:
    async def ask() -> int:
        pool = Pool(database, size=2)
        async with connect_async(stores.settings) as client:
            both = BothStores(IndexReader(client), Reader(pool), alias=stores.settings.index_prefix, cache_size=0)
            search = Search(Reader(pool), both)
            answer = await search.find(compile_query(parse(text, now=0, tz="UTC")), PageRequest(1000))
            await both.close()
        pool.close()
        return len(answer.events)

    return asyncio.run(ask())
