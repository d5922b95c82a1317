"""A page of events: the request for a page, the positions of its events, and how many events fit into it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from eventsvc.event import Event

Position = tuple[int, int]  # (time, seq): see ``Event.position`` and ``Event.occurred_position``

PAGE_BYTES = 4 * 1024 * 1024
LARGE = 50  # events: pages with more are large, and each process reads only a few large pages at the same time
MOST_LARGE_WAITING = 500  # large pages that may wait in one process
_OTHERS = 300  # bytes of an event beside message and data
_PER_POSITION = 170  # bytes of memory: a tuple and three integers


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page of the matching events, for either store.

    Attributes:
        limit: how many events at most.
        after: the position that the page follows, in the direction of reading; None for the first page.
        newest_first: the direction of reading.
        upto: only events up to this seq; None for all events.
        count: whether to count all matching events as well, those outside the page included.
        size: the most bytes of text of all events together; see ``fit``. A page has at least one event.
        time: the field that orders events; events of equal times are ordered by seq.
    """

    limit: int
    after: Position | None = None
    newest_first: bool = True
    upto: int | None = None
    count: bool = False
    size: int = PAGE_BYTES
    time: str = "createdAt"

    @property
    def by_creation(self) -> bool:
        """Whether events are in the order in which the log took them, which is also the order of an index."""
        return self.time == "createdAt"

    @property
    def is_first_by_creation(self) -> bool:
        """Whether this is the first page in that order, without a count of all matching events."""
        return self.by_creation and self.after is None and self.upto is None and not self.count

    def position(self, event: Event) -> Position:
        """Give an event's position in this order."""
        return event.position if self.by_creation else event.occurred_position


@dataclass(frozen=True, slots=True)
class Positions:
    """The positions of the events that the index has found for a page.

    Attributes:
        found: the position of each event, in order.
        created: the createdAt of each event, in ms.
        total: the number of all matching events, if the request asks for it.
    """

    found: tuple[Position, ...] = ()
    created: tuple[int, ...] = ()
    total: int | None = None

    def only(self, some: Container[Position]) -> Positions:
        """Leave out the positions that are not among some positions."""
        kept = [pair for pair in zip(self.found, self.created, strict=True) if pair[0] in some]
        return Positions(tuple(position for position, _ in kept), tuple(created for _, created in kept))

    def weigh(self) -> int:
        """Estimate the bytes that the positions take."""
        return _PER_POSITION * (1 + len(self.found))


def fit(events: Iterable[Event], size: int) -> tuple[Event, ...]:
    """Give the first events that fit into so many bytes, but at least one event."""
    fitting: list[Event] = []
    for event in events:
        size -= weigh(event)
        if size < 0 and fitting:
            break
        fitting.append(event)
    return tuple(fitting)


def weigh(event: Event) -> int:
    """Estimate the bytes of an event in an answer."""
    return _length(event.message) + _length(event.data) + _OTHERS


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
