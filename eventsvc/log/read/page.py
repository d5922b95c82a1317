"""A page of events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg2 import sql

from eventsvc.event import Event
from eventsvc.fields import FIELDS
from eventsvc.log.filter import Filter
from eventsvc.log.read.state import COLUMNS, Moment, Part, Row

Position = tuple[int, int]  # what events are ordered by: see ``Event.position`` and ``Event.place``

PAGE_BYTES = 4 * 1024 * 1024
_OTHERS = 300  # bytes of an event beside message and data

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART_COUNT, _PART_EVENT = 1, 2

_COUNT = sql.SQL("SELECT 1, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM event WHERE {where}")
# One event more than ``fit``, so that whoever reads the rows knows that there are more.
_EVENTS = sql.SQL(
    "SELECT 2, {columns} FROM ("
    "SELECT *, coalesce(sum(octet_length(message) + octet_length(data::text) + 300)"
    " OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,"
    " row_number() OVER (ORDER BY {order}) AS place"
    " FROM ({page}) AS page) AS sized WHERE before <= %s OR place <= 2"
)
_MATCHING = sql.SQL("SELECT * FROM event WHERE {where} ORDER BY {order} LIMIT %s")
# PERF: the bounds let PostgreSQL leave out the other months when it plans.
_MATCHING_AND_FOUND = sql.SQL(
    "SELECT * FROM (({matching}) UNION ALL"
    " SELECT * FROM event WHERE created_at >= %s AND created_at <= %s AND seq = ANY (%s)) AS found"
    " ORDER BY {order} LIMIT %s"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Events, in the order asked for; ``total`` only if that was asked for. See ``state.Answered``."""

    moment: Moment
    events: tuple[Event, ...]
    total: int | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Where some events lie in the log: their seqs, and when the first and the last of them were created, in ms."""

    seqs: tuple[int, ...] = ()
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """Which of the matching events are wanted.

    Attributes:
        limit: at most so many.
        after: only events past this position, in the direction of reading.
        newest_first: the direction of reading.
        upto: only events with at most this seq; None for no such bound.
        count: whether to count all matching events as well, whatever ``after`` and ``limit`` say.
        size: no more events than ``fit`` into so many bytes, and one.
        time: the field that events are ordered by, and then by seq.
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
        """Whether events are in the order in which the log took them."""
        return self.time == "createdAt"

    def position(self, event: Event) -> Position:
        """Give an event's place in this order."""
        return event.position if self.by_creation else event.place

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return self.compose_with(matching, Places())

    def compose_with(self, matching: Filter, places: Places) -> list[Part]:
        """Ask for the events at these places as well, all of which lie within the slice, as one page."""
        found = matching if self.upto is None else matching & Filter("seq <= %s", (self.upto,))
        parts: list[Part] = []
        if self.count:
            parts.append((_COUNT.format(where=sql.SQL(found.text)), list(found.parameters)))
        if self.after is not None:
            found &= self._past(self.after)
        column, direction = FIELDS[self.time].column, "DESC" if self.newest_first else "ASC"
        order = sql.SQL(f"{column} {direction}, seq {direction}")
        page = _MATCHING.format(where=sql.SQL(found.text), order=order)
        parameters = [*found.parameters, self.limit]
        if places.seqs:
            page = _MATCHING_AND_FOUND.format(matching=page, order=order)
            parameters += [_moment(places.first), _moment(places.last), list(places.seqs), self.limit]
        events = _EVENTS.format(columns=COLUMNS, order=order, page=page)
        return [*parts, (events, [*parameters, self.size])]

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``."""
        total = next((int(row[1]) for row in rows if row[0] == _PART_COUNT), None)
        events = [Event(*row[1:]) for row in rows if row[0] == _PART_EVENT]
        events.sort(key=self.position, reverse=self.newest_first)
        return Rows(moment, tuple(events), total, settled)

    def _past(self, position: Position) -> Filter:
        time, seq = position
        sign = "<" if self.newest_first else ">"
        text = f"({FIELDS[self.time].column}, seq) {sign} (%s, %s)"
        return Filter(text, (_moment(time) if self.by_creation else time, seq))


@dataclass(frozen=True, slots=True)
class Merged:
    """A slice of the matching events and of those at some places, where the index has found them, as one page."""

    wanted: Slice
    places: Places

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return self.wanted.compose_with(matching, self.places)

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``."""
        return self.wanted.decode(rows, moment, settled=settled)


def fit(events: Iterable[Event], size: int) -> tuple[Event, ...]:
    """Give the first events, as many as fit into so many bytes, but one at least."""
    fitting: list[Event] = []
    for event in events:
        size -= _length(event.message) + _length(event.data) + _OTHERS
        if size < 0 and fitting:
            break
        fitting.append(event)
    return tuple(fitting)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _moment(created_at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=created_at)
