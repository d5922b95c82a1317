"""Months that are over are merged, once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.index import indexes
from eventsvc.indexer import leader
from eventsvc.log.progress import index_months


def count_segments(elasticsearch: Elasticsearch, name: str) -> int:
    shards = elasticsearch.indices.segments(index=name)["indices"][name]["shards"]
    return max(int(copy["num_search_segments"]) for copies in shards.values() for copy in copies)


def test_a_month_that_is_over_is_merged_once_and_the_current_one_is_left_alone(
    run_indexer: Any,
    log: Any,
    elasticsearch: Elasticsearch,
    monkeypatch: pytest.MonkeyPatch,
    waiting: Callable[..., Any],
) -> None:
    with run_indexer():
        for _ in range(3):  # a segment each
            log.insert(5, at="'2020-01-10'")
            log.insert(5)
            log.wait_visible()
    months = index_months.list_indexes(log.connection)
    over, current = months[date(2020, 1, 1)].name, months[max(months)].name
    segments = count_segments(elasticsearch, current)
    assert count_segments(elasticsearch, over) > 1

    monkeypatch.setattr(leader, "MERGE_AFTER", 0.0)
    with run_indexer():
        waiting(lambda: count_segments(elasticsearch, over) == 1)
    assert not indexes.merge(elasticsearch, over)
    assert count_segments(elasticsearch, current) == segments > 1
