"""Read a page of events, or the events around a position."""

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
# The statement gives one event more than ``fit`` takes, which tells that there are more events.
_EVENTS = sql.SQL(
    "SELECT 2, {columns} FROM ("
    "SELECT *, coalesce(sum(octet_length(message) + octet_length(data::text) + 300)"
    " OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,"
    " row_number() OVER (ORDER BY {order}) AS place"
    " FROM ({page}) AS page) AS sized WHERE before <= %s OR place <= 2"
)
_MATCHING = sql.SQL("SELECT * FROM event WHERE {where} ORDER BY {order} LIMIT %s")
# PERF: the bounds of created_at let the planner leave out the other months. On Citus, the routing leaves out the
# workers that store none of these events: these workers may be lost.
_MATCHING_AND_FOUND = sql.SQL(
    "SELECT * FROM (({matching}) UNION ALL"
    " SELECT * FROM event WHERE created_at >= %s AND created_at <= %s AND seq = ANY (%s){routing}) AS found"
    " ORDER BY {order} LIMIT %s"
)


_NONE = Positions()


@dataclass(frozen=True, slots=True)
class LogPage:
    """The content of an answer: the events of a page, in order, and the number of all matching events if requested."""

    events: tuple[Event, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class PageQuestion:
    """A question for one page of the matching events and of the events that the index has found for the page."""

    request: PageRequest
    found: Positions = _NONE

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        request = self.request
        within = matching if request.upto is None else matching & Filter("seq <= %s", (request.upto,))
        parts: list[Part] = []
        if request.count:
            parts.append((_COUNT.format(where=sql.SQL(within.text)), list(within.parameters)))
        if request.after is not None:
            within &= self._past(request.after)
        column, direction = FIELDS[request.time].column, "DESC" if request.newest_first else "ASC"
        order = sql.SQL(f"{column} {direction}, seq {direction}")
        page = _MATCHING.format(where=sql.SQL(within.text), order=order)
        parameters = [*within.parameters, request.limit]
        if self.found.found:
            routing = sql.SQL("").join(
                sql.SQL(" AND {} = %s").format(sql.Identifier(column)) for column in matching.routing
            )
            page = _MATCHING_AND_FOUND.format(matching=page, order=order, routing=routing)
            seqs = [seq for _, seq in self.found.found]
            parameters += [_timestamp(self.found.first), _timestamp(self.found.last), seqs]
            parameters += [*matching.routing.values(), request.limit]
        events = _EVENTS.format(columns=COLUMNS, order=order, page=page)
        return [*parts, (events, [*parameters, request.size])]

    def decode(self, rows: Sequence[Row]) -> LogPage:
        """See ``Question``."""
        total = next((int(row[1]) for row in rows if row[0] == _PART_COUNT), None)
        events = [Event(*row[1:]) for row in rows if row[0] == _PART_EVENT]
        events.sort(key=self.request.position, reverse=self.request.newest_first)
        return LogPage(tuple(events), total)

    def _past(self, position: Position) -> Filter:
        time, seq = position
        sign = "<" if self.request.newest_first else ">"
        text = f"({FIELDS[self.request.time].column}, seq) {sign} (%s, %s)"
        return Filter(text, (_timestamp(time) if self.request.by_creation else time, seq))


def _timestamp(created_at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=created_at)
