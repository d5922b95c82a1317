"""reindex, verify, backfill and retry-failures against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.admin import rebuild
from eventsvc.admin.compare import WIDTH, Range
from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, repair, retry_refused, verify
from eventsvc.errors import IndexUnavailable, LogError
from eventsvc.index import indexes
from eventsvc.index.client import connect_async
from eventsvc.index.indexes import write_alias
from eventsvc.index.reader import IndexReader
from eventsvc.log.connection import Pool, connect
from eventsvc.log.progress import index_months, rebuilds
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PageRequest
from eventsvc.search.both_stores import BothStores
from eventsvc.search.search import Search, compile_query
from eventsvc.settings import Settings

JANUARY = date(2020, 1, 1)
JANUARYS = 700  # events
FIRST = WIDTH - 300  # seq


def no_progress(_: int) -> None:
    pass


def check(stores: Stores, **options: Any) -> dict[str, int]:
    """Verify everything; give what was found."""
    reports = list(verify(stores, list_months(stores.connection), **options))
    counts = {kind: sum(report.count(kind) for report in reports) for kind in ("missing", "extra", "different")}
    assert all(report.equal for report in reports) == (not any(counts.values()))
    return counts


EQUAL = {"missing": 0, "extra": 0, "different": 0}


@pytest.fixture
def filled(run_indexer: Any, log: Any) -> Any:
    """A log of two months, indexed; the indexer is gone. Its seqs lie on both sides of a range's border."""
    log.fetch("SELECT setval('event_seq_seq', %s)", FIRST - 1)
    with run_indexer():
        log.insert(JANUARYS, at="'2020-01-10'", message="old %s")
        log.insert(300, message="new %s", data={"tiny": 1e-9, "list": [1, None, "ü"]})
        log.insert(1, data=[1, {"a": 2}])
        log.wait_visible()
    return log


def index_of(log: Any, month: date = JANUARY) -> str:
    name: str = index_months.list_indexes(log.connection)[month].name
    return name


@pytest.mark.parametrize("quick", [True, False])
def test_an_index_that_is_right_is_found_equal(filled: Any, stores: Stores, quick: bool) -> None:  # noqa: FBT001
    assert check(stores, quick=quick) == EQUAL


def test_missing_extra_and_different_documents_are_found_and_repaired(
    filled: Any, stores: Stores, elasticsearch: Elasticsearch
) -> None:
    name = index_of(filled)
    source = elasticsearch.get(index=name, id=str(FIRST + 17))["_source"]
    for seq in (FIRST + 3, FIRST + 4, FIRST + 699):
        elasticsearch.delete(index=name, id=str(seq))
    elasticsearch.index(index=name, id=str(FIRST + 17), document=source | {"message": "forged"})
    elasticsearch.update(index=name, id=str(FIRST + 18), doc={"data": {"order_id": 123.5}})
    elasticsearch.update(index=name, id=str(FIRST + 19), doc={"occurredAt": "2020-01-10T00:00:00.000000001Z"})
    elasticsearch.index(index=name, id="copy", document=source)
    elasticsearch.index(index=name, id="nothing", document={"message": "no seq"})
    elasticsearch.index(index=name, id=str(FIRST + 100), document=source)  # another event's place taken
    elasticsearch.indices.refresh(index=name)
    assert check(stores) == {"missing": 4, "extra": 3, "different": 3}
    for report in list(verify(stores, list_months(stores.connection))):
        repair(stores, report)
    assert check(stores) == EQUAL
    assert check(stores, quick=True) == EQUAL


def test_a_number_written_otherwise_is_no_difference(filled: Any, stores: Stores, run_indexer: Any) -> None:
    """PostgreSQL keeps the zeros of numbers that other hands stored; Elasticsearch does not."""
    filled.fetch(
        "INSERT INTO event (id, created_at, email, environment, component, message, data)"
        " VALUES (gen_random_uuid(), '2020-01-12', 'a@b.c', 'e', 'c', 'm', '{\"n\": 1.500}')"
    )
    with run_indexer():
        filled.wait_visible()
    assert check(stores) == EQUAL


def test_quick_finds_what_is_missing(filled: Any, stores: Stores, elasticsearch: Elasticsearch) -> None:
    elasticsearch.delete(index=index_of(filled), id=str(FIRST + 5), refresh=True)
    assert check(stores, quick=True) == {"missing": 1, "extra": 0, "different": 0}


def test_documents_past_the_watermark_and_refused_or_erased_events_are_no_differences(
    filled: Any, stores: Stores, elasticsearch: Elasticsearch
) -> None:
    name = index_of(filled)
    filled.insert(5)  # nobody indexes them
    filled.fetch("INSERT INTO index_failure VALUES (%s, %s, 'why')", FIRST + 9, JANUARY)
    elasticsearch.delete(index=name, id=str(FIRST + 9), refresh=True)
    filled.fetch("DELETE FROM event WHERE seq = %s", FIRST + 10)
    filled.fetch("INSERT INTO erased VALUES (%s, %s)", FIRST + 10, JANUARY)
    assert check(stores) == EQUAL


def test_a_lost_index_is_reported_and_filled_by_the_indexer(
    filled: Any, stores: Stores, elasticsearch: Elasticsearch, run_indexer: Any
) -> None:
    elasticsearch.indices.delete(index=index_of(filled))
    found = {report.month: report for report in verify(stores, list_months(stores.connection))}
    assert found[JANUARY].lost
    assert found[JANUARY].count("missing") == JANUARYS
    repair(stores, found[JANUARY])
    with run_indexer():
        filled.wait_visible()
    assert check(stores) == EQUAL


def test_backfill_touches_its_range_only(filled: Any, stores: Stores, elasticsearch: Elasticsearch) -> None:
    for seq in range(FIRST + 3, FIRST + 7):
        elasticsearch.delete(index=index_of(filled), id=str(seq))
    elasticsearch.indices.refresh(index=index_of(filled))
    for report in list(verify(stores, [JANUARY], wanted=Range(FIRST + 3, FIRST + 5))):
        assert [difference.seq for difference in report.differences] == [FIRST + 4, FIRST + 5]
        assert repair(stores, report, ("missing", "different")) == 2
    assert check(stores)["missing"] == 2


def test_an_event_restored_with_its_old_seq_is_backfilled(filled: Any, stores: Stores) -> None:
    filled.fetch("DELETE FROM event WHERE seq = 4750")
    assert check(stores)["extra"] == 1
    filled.fetch(
        "INSERT INTO event (seq, id, created_at, email, environment, component, message, data)"
        " OVERRIDING SYSTEM VALUE VALUES (4750, gen_random_uuid(), '2020-01-12', 'a@b.c', 'e', 'c', 'back', '{}')"
    )
    (report,) = verify(stores, [JANUARY])
    assert (report.count("different"), report.count("missing")) == (1, 0)
    repair(stores, report, ("missing", "different"))
    assert check(stores) == EQUAL


def test_refused_events_are_taken_later(filled: Any, stores: Stores, elasticsearch: Elasticsearch) -> None:
    filled.fetch("INSERT INTO index_failure VALUES (4709, %s, 'why'), (4710, %s, 'why')", JANUARY, JANUARY)
    elasticsearch.delete(index=index_of(filled), id=str(FIRST + 9), refresh=True)
    filled.fetch("DELETE FROM event WHERE seq = 4710")
    elasticsearch.delete(index=index_of(filled), id="4710", refresh=True)
    assert retry_refused(stores) == (2, 0)
    assert filled.fetch("SELECT seq FROM index_failure") == []
    assert check(stores) == EQUAL


def test_reindex_makes_the_next_generation_and_removes_the_old_one(
    filled: Any, stores: Stores, elasticsearch: Elasticsearch, index_prefix: str
) -> None:
    old = index_of(filled)
    done = rebuild.rebuild(stores, JANUARY, rate=None, advance=no_progress)
    assert index_of(filled) == done.name == f"{old}-g2"
    assert elasticsearch.indices.exists(index=old)
    rebuild.remove_old(stores, [done], grace=0)
    assert not elasticsearch.indices.exists(index=old)
    assert check(stores) == EQUAL
    assert elasticsearch.count(index=index_prefix)["count"] == JANUARYS + 301
    assert rebuilds.list_rebuilds(stores.connection) == {}


def test_reindex_goes_on_where_a_killed_run_was(filled: Any, stores: Stores, settings: Settings) -> None:
    done: list[int] = []

    def give_up(events: int) -> None:
        done.append(events)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild(stores, JANUARY, rate=200, advance=give_up)
    begun = rebuilds.list_rebuilds(stores.connection)[JANUARY]
    assert begun.done_to == FIRST + 299
    assert index_of(filled) != begun.name
    finished = rebuild.rebuild(stores, JANUARY, rate=None, advance=done.append)
    assert finished.name == begun.name
    assert sum(done) == JANUARYS
    # Killed between the swap and the removal: the next run only removes.
    assert rebuild.rebuild(stores, JANUARY, rate=None, advance=no_progress) == finished
    rebuild.remove_old(stores, [finished], grace=0)
    assert check(stores) == EQUAL


def test_an_index_that_is_not_right_is_not_swapped_in(
    filled: Any, stores: Stores, elasticsearch: Elasticsearch
) -> None:
    old = index_of(filled)

    def sabotage(_: int) -> None:
        name = rebuilds.list_rebuilds(stores.connection)[JANUARY].name
        elasticsearch.options(ignore_status=404).delete(index=write_alias(name), id=str(FIRST))

    with pytest.raises(IndexUnavailable, match="not what the log says"):
        rebuild.rebuild(stores, JANUARY, rate=None, advance=sabotage)
    assert index_of(filled) == old


def test_events_erased_during_a_reindex_do_not_come_back(
    filled: Any, stores: Stores, run_indexer: Any, waiting: Any
) -> None:
    connection = connect(stores.settings.database_url.get_secret_value())

    def erase(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM event WHERE seq = 4702 RETURNING seq")
            if cursor.rowcount:
                cursor.execute("INSERT INTO erased VALUES (4702, %s)", (JANUARY,))

    with run_indexer():
        done = rebuild.rebuild(stores, JANUARY, rate=None, advance=erase)
        waiting(lambda: not filled.fetch("SELECT seq FROM erased"))
        rebuild.remove_old(stores, [done], grace=0)
    connection.close()
    assert check(stores) == EQUAL


def test_only_one_command_changes_the_indexes_at_a_time(stores: Stores, settings: Settings) -> None:
    from eventsvc.admin.stores import open_stores

    with (
        stores.exclusive(),
        open_stores(settings) as others,
        pytest.raises(LogError, match="another"),
        others.exclusive(),
    ):
        pass


class Watcher(threading.Thread):
    """Searches all the time; every answer must hold exactly what was committed before, and what came meanwhile."""

    def __init__(self, settings: Settings, committed: list[int]) -> None:
        super().__init__()
        self.settings, self.committed = settings, committed
        self.over = threading.Event()
        self.answers = 0
        self.sources: set[str] = set()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._search())
        except BaseException as exc:  # noqa: BLE001
            self.failure = exc

    async def _search(self) -> None:
        client = connect_async(self.settings)
        pool = Pool(self.settings.database_url.get_secret_value(), size=2)
        reader = Reader(pool)
        both = BothStores(IndexReader(client, 10.0), reader, alias=self.settings.index_prefix, cache_size=2**20)
        search = Search(reader, both)
        try:
            while not self.over.is_set():
                await self._search_once(search)
        finally:
            await both.close()
            await client.close()
            await asyncio.to_thread(pool.close)

    async def _search_once(self, search: Search) -> None:
        before = set(self.committed)
        answer = await search.find(compile_query(None), PageRequest(1_000))
        seqs = [event.seq for event in answer.events]
        assert seqs == sorted(set(seqs), reverse=True), "an event is there twice, or out of order"
        # The newest thousand: whatever was committed before the question and is no older than the last of them.
        lost = {seq for seq in before if seq > seqs[-1]} - set(seqs)
        assert not lost, f"lost {sorted(lost)[:5]}, answered by {answer.provenance}"
        self.answers += 1
        self.sources.add(str(answer.provenance.source))


@contextmanager
def watch(settings: Settings, committed: list[int]) -> Iterator[Watcher]:
    watcher = Watcher(settings, committed)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.over.set()
        watcher.join(30)
    if watcher.failure is not None:
        raise watcher.failure


def test_searches_stay_exact_while_a_month_is_reindexed_beside_live_writes(
    indexer: Any, log: Any, stores: Stores, settings: Settings
) -> None:
    committed = log.insert(3_000)
    log.wait_visible()
    month = next(iter(index_months.list_indexes(log.connection)))
    over = threading.Event()

    def write() -> None:
        connection = connect(settings.database_url.get_secret_value())
        writing = type(log)(connection)
        while not over.wait(0.005):  # a rebuild must be able to catch up
            committed.extend(writing.insert(3))
        connection.close()

    writer = threading.Thread(target=write)
    with watch(settings, committed) as watcher:
        writer.start()
        try:
            for _ in range(2):
                rebuild.remove_old(stores, [rebuild.rebuild(stores, month, rate=None, advance=no_progress)], grace=0)
        finally:
            over.set()
            writer.join()
    assert watcher.answers > 5
    assert "index+tail" in watcher.sources
    log.wait_visible()
    assert check(stores) == EQUAL


def run_command(settings: Settings, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
    return subprocess.Popen(
        [sys.executable, "-m", "eventsvc", "admin", *arguments],
        env=environment | settings.to_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def test_the_commands(filled: Any, settings: Settings, elasticsearch: Elasticsearch) -> None:
    code, out, err = finish(run_command(settings, "verify"))
    assert (code, out.splitlines()[-1]) == (0, "equal")
    assert "verify: 1,001 in" in err
    elasticsearch.delete(index=index_of(filled), id=str(FIRST + 9), refresh=True)
    code, out, _ = finish(run_command(settings, "verify", "--json"))
    assert code == 3
    found = {report["month"]: report for report in json.loads(out)}
    assert found["2020-01"]["differences"] == [{"kind": "missing", "seq": FIRST + 9, "document": str(FIRST + 9)}]
    code, out, _ = finish(run_command(settings, "backfill", "--from", "2020-01-01", "--to", "7000", "--json"))
    assert (code, json.loads(out)) == (0, [{"documents": 1}])
    code, out, _ = finish(run_command(settings, "verify", "--month", "2020-01", "--repair"))
    assert code == 0
    code, out, _ = finish(run_command(settings, "reindex", "--dry-run", "--json"))
    assert [row["events"] for row in json.loads(out)] == [JANUARYS, 301]
    code, out, err = finish(run_command(settings, "verify", "--month", "1999-01"))
    assert (code, err.strip()) == (1, "eventsvc: --month: nothing of 1999-01 is indexed")


def test_reindex_killed_at_any_moment_is_finished_by_the_next_run(
    filled: Any, settings: Settings, stores: Stores, waiting: Any
) -> None:
    killed = run_command(settings, "reindex", "--rate", "300")
    waiting(lambda: any(state.done_to for state in rebuilds.list_rebuilds(stores.connection).values()))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    code, out, err = finish(run_command(settings, "reindex", "--json"))
    assert code == 0, err
    assert len(json.loads(out)) == 2
    assert check(stores) == EQUAL
    names = set(indexes.list_all(stores.client, settings.index_prefix))
    assert names == {index.name for index in index_months.list_indexes(stores.connection).values()}
