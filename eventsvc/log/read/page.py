"""A page of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg2 import sql

from eventsvc.event import Event
from eventsvc.log.read.state import COLUMNS, Filter, Moment, Part, Row

Position = tuple[int, int]  # (created_at in ms, seq): what events are ordered by

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART_COUNT, _PART_EVENT = 1, 2

_COUNT = sql.SQL("SELECT 1, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM event WHERE {where}")
_EVENTS = sql.SQL("(SELECT 2, {columns} FROM event WHERE {where} ORDER BY {order} LIMIT %s)")
_NEWEST_FIRST, _OLDEST_FIRST = sql.SQL("created_at DESC, seq DESC"), sql.SQL("created_at, seq")


@dataclass(frozen=True, slots=True)
class Rows:
    """Events, in the order asked for; ``total`` only if that was asked for. See ``question.Answered``."""

    moment: Moment
    events: tuple[Event, ...]
    total: int | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """Which of the matching events are wanted.

    Attributes:
        limit: at most so many.
        after: only events past this position, in the direction of reading.
        newest_first: the direction of reading.
        upto: only events with at most this seq; None for no such bound.
        count: whether to count all matching events as well, whatever ``after`` and ``limit`` say.
    """

    limit: int
    after: Position | None = None
    newest_first: bool = True
    upto: int | None = None
    count: bool = False

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        found = matching if self.upto is None else matching & Filter("seq <= %s", (self.upto,))
        parts: list[Part] = []
        if self.count:
            parts.append((_COUNT.format(where=sql.SQL(found.text)), list(found.parameters)))
        if self.after is not None:
            found &= self._past(self.after)
        order = _NEWEST_FIRST if self.newest_first else _OLDEST_FIRST
        events = _EVENTS.format(columns=COLUMNS, where=sql.SQL(found.text), order=order)
        return [*parts, (events, [*found.parameters, self.limit])]

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``."""
        total = next((int(row[1]) for row in rows if row[0] == _PART_COUNT), None)
        events = [Event(*row[1:]) for row in rows if row[0] == _PART_EVENT]
        events.sort(key=lambda event: event.position, reverse=self.newest_first)
        return Rows(moment, tuple(events), total, settled)

    def _past(self, position: Position) -> Filter:
        created_at, seq = position
        sign = "<" if self.newest_first else ">"
        return Filter(f"(created_at, seq) {sign} (%s, %s)", (_EPOCH + timedelta(milliseconds=created_at), seq))
