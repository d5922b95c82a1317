"""Send several batches to the index at once. The checkpoint passes a batch when all older batches have arrived."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date

from elasticsearch import Elasticsearch

from eventsvc.event import Event
from eventsvc.index import bulk
from eventsvc.log.months import month_of
from eventsvc.log.progress.refusals import Refusal

# More batches would only fill Elasticsearch's memory: it uses all its cores anyway.
IN_FLIGHT = 3


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a batch that has arrived, as have all older batches.

    Attributes:
        reached: every event up to this seq is indexed or refused.
        events: how many events were sent.
        refusals: the events that Elasticsearch refused.
        touched: the names of the indexes that need a refresh.
    """

    reached: int
    events: int
    refusals: tuple[Refusal, ...]
    touched: frozenset[str]


class Pipeline:
    """Encodes and sends batches in threads; gives the results in the order of the log."""

    def __init__(self, client: Elasticsearch, *, version: int, in_flight: int = IN_FLIGHT) -> None:
        """Make an empty pipeline.

        Args:
            client: the client of Elasticsearch.
            version: the version of the documents; see ``bulk.write_item``.
            in_flight: how many batches may be under way at once.
        """
        self._client, self._version, self._in_flight = client, version, in_flight
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=in_flight, thread_name_prefix="bulk")
        self._under_way: deque[Future[Done]] = deque()

    @property
    def full(self) -> bool:
        """Whether the next batch has to wait."""
        return len(self._under_way) >= self._in_flight

    @property
    def idle(self) -> bool:
        """Whether no batch is under way."""
        return not self._under_way

    def submit(self, events: Iterable[Event], reached: int, indexes: Mapping[date, str]) -> None:
        """Send a batch, which follows the previous batch in the log."""
        self._under_way.append(self._threads.submit(self._send, tuple(events), reached, indexes))

    def collect(self) -> list[Done]:
        """Give the results of batches that have arrived, up to the first batch still under way.

        Raises:
            IndexVanished: the index of a batch is gone.
            IndexUnavailable: Elasticsearch takes no documents.
        """
        done = []
        while self._under_way and self._under_way[0].done():
            done.append(self._under_way.popleft().result())
        return done

    def wait(self, seconds: float) -> None:
        """Wait until the oldest batch has arrived or the time is up. Younger batches alone change nothing."""
        wait(list(self._under_way)[:1], timeout=seconds)

    def close(self) -> None:
        """Abandon the batches under way. They may still arrive, but writing them again does no harm."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, events: tuple[Event, ...], reached: int, indexes: Mapping[date, str]) -> Done:
        months = {event.seq: month_of(event.created_at) for event in events}
        items = [bulk.write_item(event, indexes[months[event.seq]], version=self._version) for event in events]
        refused = bulk.send(self._client, items, self._stop)
        refusals = tuple(Refusal(one.item.seq, months[one.item.seq], one.reason) for one in refused)
        return Done(reached, len(events), refusals, frozenset(item.index for item in items))
