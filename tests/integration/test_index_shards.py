"""Months of several shards: everything that an index of one shard does, and the way from one layout to another."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.admin import rebuild
from eventsvc.admin.doctor import examine
from eventsvc.admin.prune import list_sizes
from eventsvc.admin.stores import Stores, open_stores
from eventsvc.admin.verify import list_months, repair, verify
from eventsvc.index import indexes
from eventsvc.index.client import connect_async
from eventsvc.index.reader import IndexReader, Scope
from eventsvc.paging import PageRequest
from eventsvc.settings import Settings

EVENTS = 300
MONTH = date(2020, 1, 1)
EVERYTHING: dict[str, Any] = {"match_all": {}}


@pytest.fixture
def index_shards() -> int:
    return 3


@pytest.fixture
def filled(log: Any, run_indexer: Any) -> Any:
    """A month of three shards; many of its events have the same createdAt."""
    with run_indexer():
        for second in range(3):
            log.insert(EVENTS // 3, at=f"'2020-01-10 00:00:0{second}'")
        log.wait_visible()
    return log


def names(stores: Stores) -> list[str]:
    return indexes.list_all(stores.client, stores.settings.index_prefix)


def read_pages(settings: Settings, scope: Scope, *, newest_first: bool) -> list[int]:
    """Turn pages of seven until the end; give the seqs."""

    async def read() -> list[int]:
        async with connect_async(settings) as client:
            reader, found = IndexReader(client), list[tuple[int, int]]()
            while True:
                wanted = PageRequest(7, after=found[-1] if found else None, newest_first=newest_first)
                page = await reader.positions(scope, EVERYTHING, wanted)
                if not page.found:
                    return [seq for _, seq in found]
                found += page.found

    return asyncio.run(read())


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_over_shards_hold_each_event_once_and_in_order(
    filled: Any,
    stores: Stores,
    newest_first: bool,  # noqa: FBT001
) -> None:
    scope = Scope(tuple(names(stores)), 250)
    assert read_pages(stores.settings, scope, newest_first=newest_first) == sorted(
        (seq for (seq,) in filled.fetch("SELECT seq FROM event WHERE seq <= 250")), reverse=newest_first
    )


@pytest.mark.parametrize("quick", [True, False])
def test_what_is_wrong_in_any_shard_is_found_and_repaired(
    filled: Any,
    stores: Stores,
    elasticsearch: Elasticsearch,
    quick: bool,  # noqa: FBT001
) -> None:
    assert all(report.equal for report in verify(stores, [MONTH], quick=quick))
    (name,) = names(stores)
    lost = [seq for (seq,) in filled.fetch("SELECT seq FROM event ORDER BY seq LIMIT 12")]
    for seq in lost:
        elasticsearch.delete(index=name, id=str(seq))
    elasticsearch.indices.refresh(index=name)
    (report,) = verify(stores, [MONTH], quick=quick)
    assert report.count("missing") == len(lost)
    repair(stores, report)
    assert all(report.equal for report in verify(stores, [MONTH], quick=quick))


def test_reindex_takes_a_month_to_another_layout(filled: Any, settings: Settings) -> None:
    with open_stores(settings.model_copy(update={"index_shards": 2})) as stores:
        found = {finding.what: finding for finding in examine(stores.settings)}
        assert "other numbers" in found["shards a month"].found
        state = rebuild.rebuild(stores, MONTH, rate=None, advance=lambda _: None)
        rebuild.remove_old(stores, [state], grace=0)
        assert [(size.documents, size.shards) for size in list_sizes(stores) if size.index] == [(EVENTS, 2)]
        assert all(report.equal for report in verify(stores, list_months(stores.connection)))
        found = {finding.what: finding for finding in examine(stores.settings)}
        assert found["shards a month"].found == "2"


def test_replicas_without_a_place_are_no_fault_of_a_refresh(settings: Settings, elasticsearch: Elasticsearch) -> None:
    name = indexes.create(elasticsearch, settings.index_prefix, MONTH, shards=3, replicas=1).name
    assert elasticsearch.cluster.health(index=name)["status"] == "yellow"
    indexes.refresh(elasticsearch, [name])
