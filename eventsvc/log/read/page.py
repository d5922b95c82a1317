"""Read a page of events: the matching ones, or those that the index has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg2 import sql

from eventsvc.event import Event
from eventsvc.fields import FIELDS
from eventsvc.log.filter import Filter
from eventsvc.log.read.state import COLUMNS, Part, Row
from eventsvc.paging import PageRequest, Position, Positions

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART_COUNT, _PART_EVENT = 1, 2

_COUNT = sql.SQL("SELECT 1, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM event WHERE {where}")
# The part gives one event more than ``fit`` takes, which tells that there are more events.
_EVENTS = sql.SQL(
    "SELECT 2, {columns} FROM ("
    "SELECT *, coalesce(sum(octet_length(message) + octet_length(data::text) + 300)"
    " OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,"
    " row_number() OVER (ORDER BY {order}) AS place"
    " FROM ({page}) AS page) AS sized WHERE before <= %s OR place <= 2"
)
_MATCHING = sql.SQL("SELECT * FROM event WHERE {where} ORDER BY {order} LIMIT %s")
# PERF: with both columns, PostgreSQL looks into the index of one month for each event. On Citus, the routing leaves out
# the workers that store none of these events: these workers may be lost.
_FOUND = sql.SQL(
    "SELECT event.* FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (created, number)"
    " JOIN event ON created_at = timestamptz 'epoch' + created * interval '1 millisecond' AND seq = number"
    " WHERE created_at >= %s AND created_at <= %s{routing}"
)


@dataclass(frozen=True, slots=True)
class LogPage:
    """The content of an answer: the events of a page, in order, and the number of all matching events if requested."""

    events: tuple[Event, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class PageQuestion:
    """A question for one page of the matching events."""

    request: PageRequest

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        request = self.request
        within = matching if request.upto is None else matching & Filter("seq <= %s", (request.upto,))
        parts: list[Part] = []
        if request.count:
            parts.append((_COUNT.format(where=sql.SQL(within.text)), list(within.parameters)))
        if request.after is not None:
            within &= self._past(request.after)
        order = _order(request)
        page = _MATCHING.format(where=sql.SQL(within.text), order=order)
        events = _EVENTS.format(columns=COLUMNS, order=order, page=page)
        return [*parts, (events, [*within.parameters, request.limit, request.size])]

    def decode(self, rows: Sequence[Row]) -> LogPage:
        """See ``Question``."""
        total = next((int(row[1]) for row in rows if row[0] == _PART_COUNT), 0 if self.request.count else None)
        return LogPage(_decode_events(rows, self.request), total)

    def _past(self, position: Position) -> Filter:
        time, seq = position
        sign = "<" if self.request.newest_first else ">"
        text = f"({FIELDS[self.request.time].column}, seq) {sign} (%s, %s)"
        return Filter(text, (_timestamp(time) if self.request.by_creation else time, seq))


@dataclass(frozen=True, slots=True)
class FoundQuestion:
    """A question for the events that the index has found for a page.

    Attributes:
        routing: see ``Filter``.
    """

    request: PageRequest
    found: Positions
    routing: dict[str, str]

    def compose(self) -> Part:
        """Compose a SELECT whose text depends only on the order of the page and on the columns of the routing."""
        order = _order(self.request)
        routing = sql.SQL("").join(sql.SQL(" AND {} = %s").format(sql.Identifier(column)) for column in self.routing)
        text = _EVENTS.format(columns=COLUMNS, order=order, page=_FOUND.format(routing=routing))
        created, seqs = list(self.found.created), [seq for _, seq in self.found.found]
        bounds = [_timestamp(min(created, default=0)), _timestamp(max(created, default=0))]
        return text, [created, seqs, *bounds, *self.routing.values(), self.request.size]

    def decode(self, rows: Sequence[Row]) -> tuple[Event, ...]:
        """Make the events from the rows of this part."""
        return _decode_events(rows, self.request)


def _order(request: PageRequest) -> sql.SQL:
    column, direction = FIELDS[request.time].column, "DESC" if request.newest_first else "ASC"
    return sql.SQL(f"{column} {direction}, seq {direction}")


def _decode_events(rows: Sequence[Row], request: PageRequest) -> tuple[Event, ...]:
    events = [Event(*row[1:]) for row in rows if row[0] == _PART_EVENT]
    events.sort(key=request.position, reverse=request.newest_first)
    return tuple(events)


def _timestamp(created_at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=created_at)
