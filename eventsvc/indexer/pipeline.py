"""Send several batches to the index at once. The checkpoint passes a batch when all older batches have arrived."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date

from elasticsearch import Elasticsearch

from eventsvc.event import Event
from eventsvc.index import bulk
from eventsvc.log.months import month_of
from eventsvc.log.progress.refusals import Refusal

# Three batches keep all cores of Elasticsearch busy. More batches would only fill its memory.
IN_FLIGHT = 3  # batches

# Batches from the oldest batch that has not arrived, to the newest. If the term ends, all of them are sent again.
_MOST_AHEAD = 40


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a batch. All older batches have arrived, too.

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


@dataclass(slots=True, eq=False)
class Slot:
    """The slot of a batch in the order of the log.

    Attributes:
        done: gets the result.
        here: whether this process sends the batch.
    """

    here: bool
    done: Future[Done] = field(default_factory=Future)


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
        self._slots: deque[Slot] = deque()

    @property
    def full(self) -> bool:
        """Whether the next batch has to wait."""
        under_way = sum(slot.here and not slot.done.done() for slot in self._slots)
        return under_way >= self._in_flight or len(self._slots) >= _MOST_AHEAD

    @property
    def idle(self) -> bool:
        """Whether no batch is under way."""
        return not self._slots

    def submit(
        self, events: Iterable[Event], reached: int, indexes: Mapping[date, str], *, read_at: float | None = None
    ) -> None:
        """Send a batch, which follows the previous batch in the log; see ``bulk.send`` for ``read_at``."""
        batch = tuple(events)
        self.fill(
            self.reserve(),
            lambda: send_batch(
                self._client, batch, reached, indexes, version=self._version, stop=self._stop, read_at=read_at
            ),
        )

    def reserve(self) -> Slot:
        """Reserve the slot of the next batch. The caller sets the result of the slot, or calls ``fill``."""
        self._slots.append(Slot(here=False))
        return self._slots[-1]

    def fill(self, slot: Slot, work: Callable[[], Done]) -> None:
        """Get the result of a slot from work in a thread of this pipeline."""
        slot.here = True
        self._threads.submit(_run, work, slot.done)

    def collect(self) -> list[Done]:
        """Give the results of batches that have arrived, up to the first batch still under way.

        Raises:
            IndexVanished: the index of a batch is gone.
            IndexUnavailable: Elasticsearch takes no documents.
        """
        done = []
        while self._slots and self._slots[0].done.done():
            done.append(self._slots.popleft().done.result())
        return done

    def wait(self, seconds: float) -> None:
        """Wait until one more batch has arrived or the time is up."""
        under_way = [slot.done for slot in self._slots if not slot.done.done()]
        wait(under_way, timeout=seconds, return_when=FIRST_COMPLETED)

    def close(self) -> None:
        """Abandon the batches under way. They may still arrive, but writing them again does no harm."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _run(work: Callable[[], Done], done: Future[Done]) -> None:
    try:
        done.set_result(work())
    except BaseException as exc:  # noqa: BLE001  (the caller of `collect` gets it)
        done.set_exception(exc)


def send_batch(
    client: Elasticsearch,
    events: tuple[Event, ...],
    reached: int,
    indexes: Mapping[date, str],
    *,
    version: int,
    stop: threading.Event,
    read_at: float | None,
) -> Done:
    """Index consecutive events; see ``bulk.send`` for the arguments and the errors."""
    months = {event.seq: month_of(event.created_at) for event in events}
    items = [bulk.write_item(event, indexes[months[event.seq]], version=version) for event in events]
    refused = bulk.send(client, items, stop, read_at=read_at)
    refusals = tuple(Refusal(one.item.seq, months[one.item.seq], one.reason) for one in refused)
    return Done(reached, len(events), refusals, frozenset(item.index for item in items))
