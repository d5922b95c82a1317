"""Several indexers share the work: the leader offers ranges of the log, and the other indexers index them.

The leader offers shares only while it is far behind the horizon and its own pipeline is full. A share keeps its place
in the leader's pipeline, so the checkpoint and the watermark pass the share when its result is there. Table
``index_share`` holds the shares; see log/progress/shares.py.

When the leader has room in its pipeline, it takes back the oldest share that nobody has taken. It also takes back the
shares of an indexer that has been silent. The silent indexer may wake up and write the same documents once more; it
cannot bring back erased events, for the reasons given in index/bulk.py.
"""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog
from elasticsearch import Elasticsearch

from eventsvc import telemetry
from eventsvc.errors import EventsvcError, Fenced
from eventsvc.index.bulk import backoff
from eventsvc.indexer.pipeline import IN_FLIGHT, Done, Pipeline, Slot, send_batch
from eventsvc.log.connection import Connection, Pool
from eventsvc.log.months import month_of
from eventsvc.log.progress import index_months, shares
from eventsvc.log.progress.refusals import Refusal
from eventsvc.log.progress.shares import Result, Share
from eventsvc.log.read.batches import read_batch
from eventsvc.settings import Settings

SHARE = 5_000  # seqs
FAR_BEHIND = 20_000  # seqs; the leader alone indexes fewer than these within a second or so
_MOST_OFFERED = 8  # shares at a time
_LOOK_EVERY = 0.05  # seconds between looks at the table
_IDLE = 0.2  # seconds between looks for a share, when there was none
_COUNT_EVERY = 1.0  # seconds between looks for other indexers
_RENEW_EVERY = 1.0  # seconds
SILENCE = 3.5  # seconds; an indexer that says nothing for so long hangs or is dead

_logger = structlog.get_logger()


def index_share(pool: Pool, client: Elasticsearch, share: Share, stop: threading.Event) -> Done:
    """Index the events of a share.

    Raises:
        Fenced: the indexes were changed.
        IndexVanished: an index is gone.
        IndexUnavailable: Elasticsearch takes no documents.
        Stopped: ``stop`` was set.
    """
    sent, refusals, touched = 0, list[Refusal](), set[str]()
    with pool.connection() as connection:
        known = index_months.list_indexes(connection)
        names = {month: index.name for month, index in known.items()}
        reached = share.after
        while reached < share.upto:
            read_at = time.monotonic()
            batch = read_batch(connection, after=reached, to=share.upto)
            if not {month_of(event.created_at) for event in batch.events} <= known.keys():
                raise Fenced("the indexes were changed")
            events = tuple(e for e in batch.events if e.seq > known[month_of(e.created_at)].filled_to)
            done = send_batch(client, events, batch.reached, names, version=share.fence, stop=stop, read_at=read_at)
            sent, reached = sent + done.events, done.reached
            refusals += done.refusals
            touched |= done.touched
    return Done(share.upto, sent, tuple(refusals), frozenset(touched))


class Offers:
    """The leader's side: the shares that it has offered, and their slots in its pipeline."""

    def __init__(
        self, settings: Settings, connection: Connection, client: Elasticsearch, pipeline: Pipeline, fence: int
    ) -> None:
        self._connection, self._client, self._pipeline, self._fence = connection, client, pipeline, fence
        self._pool = Pool(settings.database_url.get_secret_value(), size=IN_FLIGHT)
        self._stop = threading.Event()
        self._offered: dict[int, tuple[Share, Slot]] = {}
        self._looked_at = self._counted_at = 0.0
        self._others = 0
        shares.forget(connection, fence)

    def wanted(self, behind: int) -> bool:
        """Tell whether to offer a share, when so many seqs are left to be read."""
        if behind < FAR_BEHIND or len(self._offered) >= _MOST_OFFERED:
            return False
        if time.monotonic() - self._counted_at >= _COUNT_EVERY:
            self._counted_at, self._others = time.monotonic(), shares.count_others(self._connection)
        return self._others > 0

    def offer(self, after: int, upto: int) -> None:
        """Offer a share, which follows the previous batch in the log. Every month of its events must have an index."""
        share = Share(self._fence, after, upto)
        shares.offer(self._connection, share)
        self._offered[after] = share, self._pipeline.reserve()

    def look(self) -> None:
        """Collect the results, and take shares back while the pipeline has room."""
        if not self._offered or time.monotonic() - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        for after, result in shares.collect(self._connection, self._fence, SILENCE).items():
            if result is None:
                _logger.warning("an indexer that had taken a share of the work is silent", after=after)
                self._index_here(after)
            else:
                share, slot = self._offered.pop(after)
                slot.done.set_result(Done(share.upto, 0, result.refusals, frozenset(result.touched)))
        while self._offered and not self._pipeline.full:
            untaken = shares.take_back(self._connection, self._fence)
            if untaken is None:
                return
            self._index_here(untaken)

    def _index_here(self, after: int) -> None:
        share, slot = self._offered.pop(after)
        self._pipeline.fill(slot, lambda: index_share(self._pool, self._client, share, self._stop))

    def close(self) -> None:
        """Stop the work under way."""
        self._stop.set()
        self._pool.close()


class Helper:
    """The side of an indexer that does not lead: takes shares and indexes them in threads."""

    def __init__(self, settings: Settings, connection: Connection, client: Elasticsearch) -> None:
        self._connection, self._client = connection, client
        self._pool = Pool(settings.database_url.get_secret_value(), size=IN_FLIGHT)
        self._threads = ThreadPoolExecutor(max_workers=IN_FLIGHT, thread_name_prefix="bulk")
        self._name = secrets.token_hex(8)
        self._stop = threading.Event()
        self._under_way: dict[Share, Future[Done]] = {}
        self._renewed_at = self._rested_until = 0.0
        self._failures = 0

    def work(self, seconds: float, stop: threading.Event) -> None:
        """Help for about so many seconds, or wait if there is nothing to do."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not stop.is_set():
            if self._step():
                wait(self._under_way.values(), timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            else:
                stop.wait(min(left, _IDLE))

    def close(self) -> None:
        """Give the shares back, if possible, and stop the work under way."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()

    def _step(self) -> bool:
        """Hand in, renew and take shares; tell whether some are under way."""
        try:
            self._hand_in()
            if self._under_way and time.monotonic() - self._renewed_at >= _RENEW_EVERY:
                self._renewed_at = time.monotonic()
                shares.renew(self._connection, self._name, list(self._under_way))
        except EventsvcError as exc:
            self._give_back(exc)
        if time.monotonic() >= self._rested_until:
            self._take()
        return bool(self._under_way)

    def _hand_in(self) -> None:
        for share in [share for share, future in self._under_way.items() if future.done()]:
            done = self._under_way[share].result()
            shares.hand_in(self._connection, self._name, share, Result(tuple(done.touched), done.refusals))
            del self._under_way[share]
            telemetry.EVENTS_INDEXED.inc(done.events)
            self._failures = 0

    def _take(self) -> None:
        while len(self._under_way) < IN_FLIGHT and (share := shares.take(self._connection, self._name)):
            self._under_way[share] = self._threads.submit(index_share, self._pool, self._client, share, self._stop)

    def _give_back(self, exc: EventsvcError) -> None:
        """Give all shares back after an error. The leader meets the same error, and handles it."""
        _logger.info("shares of the work given back", shares=len(self._under_way), reason=str(exc))
        self._stop.set()
        self._stop = threading.Event()
        self._under_way.clear()
        self._failures += 1
        self._rested_until = time.monotonic() + backoff(self._failures)
        shares.give_back(self._connection, self._name)
