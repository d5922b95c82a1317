"""A leader's term: it begins at the stored checkpoint, and ends with the first error.

indexer.py decides which process leads.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date

import structlog
from elasticsearch import Elasticsearch
from prometheus_client import Gauge

from eventsvc import telemetry
from eventsvc.errors import Fenced
from eventsvc.index import bulk, indexes
from eventsvc.indexer.leftovers import remove_leftovers
from eventsvc.indexer.pipeline import Done, Pipeline
from eventsvc.indexer.sharing import SHARE, Offers
from eventsvc.log.connection import Connection
from eventsvc.log.months import month_of
from eventsvc.log.progress import erased, index_months, refusals, watermark
from eventsvc.log.progress.erased import Erased, list_erased
from eventsvc.log.progress.horizon import Horizon
from eventsvc.log.read.batches import list_months_of, read_batch
from eventsvc.settings import Settings

_logger = structlog.get_logger()

# Only an indexer registers these gauges: an API process would always show 0.
_WATERMARK = Gauge("eventsvc_watermark", "Highest seq visible to search")
_HORIZON = Gauge("eventsvc_horizon", "Highest seq below which nothing can still appear")

POLL = 0.05  # seconds between looks at the horizon
_REFRESH_EVERY = 0.5  # seconds at least between refreshes
_ERASE_EVERY = 0.5  # seconds between looks for erased events
_ERASE_AT_ONCE = 2_000
MERGE_AFTER = 60.0  # seconds from the beginning of a term to the first merge of a past month's index
_MERGE_EVERY = 3600.0  # seconds to the next merge
_CHECK_EVERY = 3.0  # seconds between checks that no index was lost or replaced


class Term:
    """One term of a leader. After an exception the object must not be used again.

    Attributes:
        moved: whether this term has moved the watermark.
    """

    def __init__(
        self, settings: Settings, connection: Connection, client: Elasticsearch, stop: threading.Event
    ) -> None:
        self._settings, self._connection, self._client, self._stop = settings, connection, client, stop
        mark = watermark.draw_fence(connection)
        self._fence, self._cursor = mark.fence, mark.checkpoint
        self._done_to, self._visible_to = mark.checkpoint, mark.seq
        self._indexes = index_months.list_indexes(connection)
        self._horizon = Horizon(connection)
        self._pipeline = Pipeline(client, version=mark.fence)
        self._offers = Offers(settings, connection, client, self._pipeline, mark.fence)
        self._touched: set[str] = set()  # the indexes that need a refresh; ``begin`` refreshes all
        self._errands = ThreadPoolExecutor(max_workers=1, thread_name_prefix="errand")
        self._refresh: tuple[Future[None], int] | None = None
        self._refreshed_at = 0.0
        self._check: Future[list[date]] | None = None
        self._checked_at = time.monotonic()
        self._merge_at = self._checked_at + MERGE_AFTER
        self._erasing: list[Erased] = []
        self._erased_at = 0.0
        self.moved = False
        _logger.debug("a term begins", checkpoint=mark.checkpoint, watermark=mark.seq, fence=mark.fence)

    def begin(self) -> None:
        """Check every index, make all earlier documents visible, and remove documents whose event is not in the log.

        Raises:
            Fenced: an index was lost; an empty index has replaced it.
            IndexUnavailable: Elasticsearch does not answer.
            Stopped: the indexer was told to stop.
        """
        known = list(self._indexes.values())
        for month in self._find_lost(known):
            self._replace_lost(month)
        removed = remove_leftovers(
            self._connection, self._client, known, checkpoint=self._done_to, fence=self._fence, stop=self._stop
        )
        self._touched.update(removed)
        if removed:
            _logger.warning("documents of events that the log does not have removed", events=removed.total())

    def close(self) -> None:
        """Abandon the requests under way."""
        self._pipeline.close()
        self._offers.close()
        self._errands.shutdown(wait=False, cancel_futures=True)

    def step(self) -> None:
        """Do all work that is due, and wait a moment if there is none."""
        horizon = self._horizon.poll()
        _HORIZON.set(horizon)
        self._erase_if_due()
        self._offers.look()
        # A batch that was read before an erasure may contain an erased event. So while documents wait to be deleted,
        # this term reads no batch, and it deletes them only when all earlier batches have arrived.
        read = not self._erasing and self._read_ahead(horizon)
        for done in self._pipeline.collect():
            self._settle(done)
        self._refresh_if_due()
        self._check_if_due()
        self._merge_if_due()
        if not read:
            self._pause()

    def _pause(self) -> None:
        if self._pipeline.idle:
            time.sleep(POLL)
        else:
            self._pipeline.wait(POLL)

    def _read_ahead(self, horizon: int) -> bool:
        """Read batches into the pipeline, and offer shares when it is full; tell whether anything was done."""
        before = self._cursor
        while not self._pipeline.full and self._cursor < horizon:
            read_at = time.monotonic()
            batch = read_batch(self._connection, after=self._cursor, to=horizon)
            filled_to = [self._index_of(month_of(event.created_at)).filled_to for event in batch.events]
            events = [event for event, seq in zip(batch.events, filled_to, strict=True) if event.seq > seq]
            self._pipeline.submit(events, batch.reached, self._names(), read_at=read_at)
            self._cursor = batch.reached
        while self._pipeline.full and self._offers.wanted(behind=horizon - self._cursor):
            upto = min(self._cursor + SHARE, horizon)
            for month in list_months_of(self._connection, after=self._cursor, to=upto):
                self._index_of(month)
            self._offers.offer(self._cursor, upto)
            self._cursor = upto
        return self._cursor > before

    def _names(self) -> dict[date, str]:
        return {month: index.name for month, index in self._indexes.items()}

    def _index_of(self, month: date) -> index_months.IndexMonth:
        if month not in self._indexes:
            self._indexes[month] = self._add_index(month)
        return self._indexes[month]

    def _add_index(self, month: date) -> index_months.IndexMonth:
        index = self._create_index(month)
        _logger.info("index made", index=index.name)
        return index_months.add_index(self._connection, self._fence, month, index.name, index.uuid)

    def _create_index(self, month: date, *, after: str = "") -> indexes.Index:
        settings = self._settings
        shards, replicas = settings.index_shards, settings.index_replicas
        return indexes.create(self._client, settings.index_prefix, month, shards=shards, replicas=replicas, after=after)

    def _settle(self, done: Done) -> None:
        if done.refusals:
            refusals.record(self._connection, self._fence, done.refusals)
            telemetry.INDEX_FAILURES.inc(len(done.refusals))
            _logger.error("events refused by the index", events=len(done.refusals), reason=done.refusals[0].reason)
        telemetry.EVENTS_INDEXED.inc(done.events)
        self._done_to = done.reached
        self._touched |= done.touched

    def _refresh_if_due(self) -> None:
        if self._refresh is not None:
            self._finish_refresh(*self._refresh)
        due = self._done_to > self._visible_to and time.monotonic() - self._refreshed_at >= _REFRESH_EVERY
        if self._refresh is None and due:
            self._refreshed_at = time.monotonic()
            touched, self._touched = self._touched, set()
            self._refresh = (self._errands.submit(indexes.refresh, self._client, touched), self._done_to)

    def _finish_refresh(self, refresh: Future[None], reached: int) -> None:
        if refresh.done():
            refresh.result()
            watermark.move(self._connection, self._fence, checkpoint=self._done_to, seq=reached)
            self._visible_to, self._refresh, self.moved = reached, None, True
            _WATERMARK.set(reached)

    def _erase_if_due(self) -> None:
        if self._erasing:
            if self._pipeline.idle:
                self._remove_documents(self._erasing)
                self._erasing = []
        elif time.monotonic() - self._erased_at >= _ERASE_EVERY:
            self._erased_at = time.monotonic()
            self._erasing = list_erased(self._connection, _ERASE_AT_ONCE)

    def _remove_documents(self, gone: list[Erased]) -> None:
        items = [bulk.erase_item(self._indexes[one.month].name, one.seq) for one in gone if one.month in self._indexes]
        bulk.erase(self._client, items, self._stop)
        indexes.refresh(self._client, {item.index for item in items})
        erased.forget(self._connection, self._fence, gone)
        _logger.info("documents of erased events removed", events=len(gone))

    def _check_if_due(self) -> None:
        if self._check is not None and self._check.done():
            lost = self._check.result()
            self._check = None
            for month in lost:
                self._replace_lost(month)
        elif self._check is None and time.monotonic() - self._checked_at >= _CHECK_EVERY:
            self._checked_at = time.monotonic()
            self._check = self._errands.submit(self._find_lost, list(self._indexes.values()))

    def _merge_if_due(self) -> None:
        if time.monotonic() >= self._merge_at and self._pipeline.idle:
            self._merge_at = time.monotonic() + _MERGE_EVERY
            self._errands.submit(indexes.merge_newest, self._client, self._names())

    def _find_lost(self, known: list[index_months.IndexMonth]) -> list[date]:
        found = indexes.uuids(self._client, [index.name for index in known])
        return [index.month for index in known if found.get(index.name) != index.uuid]

    def _replace_lost(self, month: date) -> None:
        """Replace a lost index by an empty index, and end the term.

        Raises:
            Fenced: always. The next term starts at the lower watermark.
        """
        if watermark.read(self._connection).fence != self._fence:
            raise Fenced("the indexes were changed")  # a rebuild or `admin prune` has replaced or deleted the index
        lost = self._indexes[month]
        index = self._create_index(month, after=lost.name)
        index_months.replace_lost_index(self._connection, self._fence, month, index.name, index.uuid)
        _logger.error("an index is gone; its month is filled again", lost=lost.name, index=index.name)
        raise Fenced("an index was replaced")

    def lose(self, name: str) -> None:
        """Replace the lost index of this name by an empty index.

        Raises:
            Fenced: always. The next term starts at the lower watermark.
        """
        for month in [month for month, index in self._indexes.items() if index.name == name]:
            self._replace_lost(month)
