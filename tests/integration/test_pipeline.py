"""The pipeline and the leader's loop while the oldest batch waits for a busy server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.event import Event
from eventsvc.index import indexes
from eventsvc.indexer.leader import POLL, Term
from eventsvc.indexer.pipeline import Pipeline
from eventsvc.log.months import month_of
from eventsvc.settings import Settings

SECONDS = 1.0


class Busy:
    """The real client, whose first bulk request is not answered until the test allows it."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client, self._first = client, threading.Lock()
        self.allowed = threading.Event()

    def bulk(self, **options: Any) -> Any:
        if self._first.acquire(blocking=False):
            self.allowed.wait(30)
        return self._client.bulk(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def count(client: Elasticsearch, index: str) -> int:
    indexes.refresh(client, [index])
    return int(client.count(index=index)["count"])


@pytest.fixture
def busy(elasticsearch: Elasticsearch) -> Iterator[Busy]:
    client = Busy(elasticsearch)
    yield client
    client.allowed.set()


def test_a_younger_batch_that_has_arrived_does_not_end_the_wait(
    busy: Any, make_event: Callable[..., Event], settings: Settings, waiting: Callable[..., Any]
) -> None:
    first, second = make_event(), make_event()
    month = month_of(first.created_at)
    index = indexes.create(busy, settings.index_prefix, month, replicas=0)
    pipeline = Pipeline(busy, version=1)
    try:
        pipeline.submit([first], 1, {month: index.name})
        pipeline.submit([second], 2, {month: index.name})
        waiting(lambda: any(slot.done.done() for slot in pipeline._slots))
        assert count(busy, index.name) == 1
        started = time.monotonic()
        pipeline.wait(SECONDS)
        assert time.monotonic() - started >= SECONDS
        busy.allowed.set()
        waiting(lambda: [done.reached for done in pipeline.collect()])
    finally:
        busy.allowed.set()
        pipeline.close()


def test_a_leader_that_waits_to_erase_does_not_spin(busy: Any, log: Any, settings: Settings) -> None:
    """More is waiting to be read, and the batch under way holds up the erasing."""
    log.insert()
    term = Term(settings, log.connection, busy, threading.Event())
    try:
        term.step()
        log.insert()
        log.fetch("INSERT INTO erased VALUES (1, '2020-01-01') RETURNING seq")
        steps, until = 0, time.monotonic() + SECONDS
        while time.monotonic() < until:
            term.step()
            steps += 1
        # One step may read, and one may see that a younger batch has arrived.
        assert steps <= SECONDS / POLL + 3
        assert log.fetch("SELECT seq FROM erased") == [(1,)]
    finally:
        term.close()
