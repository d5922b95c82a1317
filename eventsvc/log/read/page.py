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
# The statement gives one event more than ``fit`` takes, which tells that there are more events.
_EVENTS = sql.SQL(
    "SELECT 2, {columns} FROM ("
    "SELECT *, coalesce(sum(octet_length(message) + octet_length(data::text) + 300)"
    " OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,"
    " row_number() OVER (ORDER BY {order}) AS place"
    " FROM ({page}) AS page) AS sized WHERE before <= %s OR place <= 2"
)
_MATCHING = sql.SQL("SELECT * FROM event WHERE {where} ORDER BY {order} LIMIT %s")
# PERF: the bounds of created_at let the planner leave out the other months.
_MATCHING_AND_FOUND = sql.SQL(
    "SELECT * FROM (({matching}) UNION ALL"
    " SELECT * FROM event WHERE created_at >= %s AND created_at <= %s AND seq = ANY (%s)) AS found"
    " ORDER BY {order} LIMIT %s"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The events of a page, in order, and the number of all matching events if requested. See ``state.Answered``."""

    moment: Moment
    events: tuple[Event, ...]
    total: int | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """The seqs of some events, and the earliest and the latest createdAt of these events, in ms."""

    seqs: tuple[int, ...] = ()
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """A request for a page of the matching events.

    Attributes:
        limit: how many events at most.
        after: the position that the page follows, in the direction of reading; None for the first page.
        newest_first: the direction of reading.
        upto: only events up to this seq; None for all events.
        count: count all matching events, too, whatever ``after`` and ``limit`` say.
        size: how many bytes of text the events may have, as ``fit`` measures them.
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
        """Whether events are in the order in which the log took them."""
        return self.time == "createdAt"

    def position(self, event: Event) -> Position:
        """Give an event's position in this order."""
        return event.position if self.by_creation else event.place

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return self.compose_with(matching, Places())

    def compose_with(self, matching: Filter, places: Places) -> list[Part]:
        """Compose a page of the matching events and of the events at these places, which all lie within the page."""
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
    """A question for one page of events that the log matches and events that the index has found."""

    wanted: Slice
    places: Places

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return self.wanted.compose_with(matching, self.places)

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``."""
        return self.wanted.decode(rows, moment, settled=settled)


def fit(events: Iterable[Event], size: int) -> tuple[Event, ...]:
    """Give the first events that fit into so many bytes, but at least one event."""
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
