"""Reading the log: by id, by page, and the tail together with all that a merge with the index must know."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from psycopg2 import sql

from eventsvc.errors import EventNotFound, LogError
from eventsvc.event import Event
from eventsvc.log.connection import Connection, Pool
from eventsvc.log.replica import NoReplica, Replicas, needed_position

Position = tuple[int, int]  # (created_at in ms, seq): what events are ordered by

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """A boolean expression over the columns of table event, with %s placeholders."""

    text: str = "true"
    parameters: tuple[Any, ...] = ()


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


class Moment(msgspec.Struct, frozen=True):
    """What one statement saw of the log's state, beside events.

    Attributes:
        watermark: every event up to this seq is in the index, save those in ``failed``.
        epoch: the erasure epoch.
        erased: seqs that are gone from the log but perhaps not yet from the index.
        failed: seqs that the index refused.
        indexes: the names of the indexes that hold the log up to the watermark, by month.
        drawn: the highest seq drawn, by events committed, under way or given up.
        layout: changes when months are made or dropped.
    """

    watermark: int
    epoch: int
    erased: tuple[int, ...]
    failed: tuple[int, ...]
    indexes: tuple[str, ...]
    drawn: int
    layout: str

    @property
    def lag(self) -> int:
        """How many seqs the index is behind."""
        return max(0, self.drawn - self.watermark)


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of the log and the moment they were read at, in one snapshot.

    Attributes:
        total: how many match in all; None unless the slice asked for it.
        settled: no seq up to ``moment.drawn`` was still under way, so what matches can only change when
            ``drawn``, ``epoch`` or ``layout`` do.
    """

    moment: Moment
    events: tuple[Event, ...]
    total: int | None = None
    settled: bool = False


class Reader:
    """Reads through a pool; one statement is one snapshot."""

    def __init__(self, pool: Pool, replicas: Replicas | None = None) -> None:
        self._pool, self._replicas = pool, replicas
        self._seen = _Seen()

    async def by_id(self, event_id: str) -> Event:
        """Give one event.

        Raises:
            EventNotFound: there is none of that id.
        """
        rows = await self._pool.run(lambda connection: _fetch(connection, _BY_ID, (event_id,)))
        if not rows:
            raise EventNotFound(event_id)
        return Event(*rows[0])

    async def tail(self, matching: Filter, wanted: Slice, *, floor: int | None = None) -> Rows:
        """Give the matching events that are not in the index: those past the watermark, and those it refused.

        Args:
            matching: the query.
            wanted: which of them.
            floor: start here rather than at the watermark, because an answer of the index at this older
                watermark is at hand; ``moment.watermark`` below it means that the index lost documents.
        """
        return await self._pool.run(lambda connection: self._tail(connection, matching, wanted, floor))

    async def whole(self, matching: Filter, wanted: Slice, *, strong: bool = True) -> Rows:
        """Give matching events out of the whole log; from a replica if one has replayed far enough."""
        if self._replicas:
            # The primary is asked for a position only: the search itself is the heavy part.
            replayed = await self._pool.run(needed_position) if strong else None
            with suppress(NoReplica):
                return await self._replicas.run(lambda c: _read(c, matching, wanted), replayed=replayed)
        return await self._pool.run(lambda connection: self._read(connection, matching, wanted))

    async def moment(self) -> Moment:
        """Give the state of the log alone."""
        ((*_, header),) = await self._pool.run(lambda connection: _fetch(connection, _HEADER, None))
        return msgspec.json.decode(header, type=Moment)

    async def span(self, matching: Filter, *, after: int, upto: int, limit: int) -> tuple[Event, ...]:
        """Give matching events with after < seq ≤ upto, in seq order; the bounds must lie below the horizon."""
        statement = _SPAN.format(columns=_COLUMNS, where=sql.SQL(matching.text))
        parameters = (*matching.parameters, after, upto, limit)
        rows = await self._pool.run(lambda connection: _fetch(connection, statement, parameters))
        return tuple(Event(*row) for row in rows)

    def _tail(self, connection: Connection, matching: Filter, wanted: Slice, floor: int | None) -> Rows:
        for _ in range(_ATTEMPTS):
            seen = self._seen
            past = _past_watermark(seen) if floor is None else _past_floor(floor, seen)
            rows = self._read(
                connection, Filter(f"{past.text} AND ({matching.text})", past.parameters + matching.parameters), wanted
            )
            self._seen = replace(self._seen, watermark=rows.moment.watermark, failed=rows.moment.failed)
            # What was only assumed must hold: the watermark grew (unless the index lost documents), and the
            # refused events are still the same.
            if rows.moment.failed == seen.failed and (floor is not None or rows.moment.watermark >= seen.watermark):
                return rows
        raise LogError("the watermark does not stand still: try again")

    def _read(self, connection: Connection, matching: Filter, wanted: Slice) -> Rows:
        quiet, drawn = self._look_for_writers(connection)
        rows = _read(connection, matching, wanted)
        return replace(rows, settled=quiet and drawn == rows.moment.drawn)

    def _look_for_writers(self, connection: Connection) -> tuple[bool, int]:
        """Tell whether every seq drawn by now is committed or given up; the snapshot must come after this."""
        ((drawn, quiet),) = _fetch(connection, _WRITERS, (self._seen.settled,))
        if quiet:
            self._seen = replace(self._seen, settled=drawn)
        return quiet, drawn


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last statements saw: assumed by the next ones, and checked.

    Attributes:
        settled: the last drawn seq for which no writer was under way.
    """

    watermark: int = 0
    failed: tuple[int, ...] = ()
    settled: int = -1


def _past_watermark(seen: _Seen) -> Filter:
    # The planner cannot know a watermark that is read in the statement itself, and would expect a third of the
    # table beyond it. The last one seen says the same, as long as it grows, and can be estimated.
    past = Filter("seq > %s AND seq > (SELECT mark.seq FROM watermark AS mark)", (seen.watermark,))
    return _or_failed(past, seen)


def _past_floor(floor: int, seen: _Seen) -> Filter:
    return _or_failed(Filter("seq > %s", (floor,)), seen)


def _or_failed(past: Filter, seen: _Seen) -> Filter:
    if not seen.failed:
        return past
    return Filter(f"({past.text} OR seq = ANY (%s))", (*past.parameters, list(seen.failed)))


def _read(connection: Connection, matching: Filter, wanted: Slice) -> Rows:
    found = _fetch(connection, *_compose(matching, wanted))
    header = next(row for row in found if row[0] == _PART_HEADER)
    total = next((int(row[1]) for row in found if row[0] == _PART_COUNT), None)
    events = [Event(*row[1:]) for row in found if row[0] == _PART_EVENT]
    # UNION ALL promises no order of its parts.
    events.sort(key=lambda event: event.position, reverse=wanted.newest_first)
    return Rows(msgspec.json.decode(header[-1], type=Moment), tuple(events), total)


def _compose(matching: Filter, wanted: Slice) -> tuple[sql.Composed, list[Any]]:
    where, values = [f"({matching.text})"], list(matching.parameters)
    if wanted.upto is not None:
        where.append("seq <= %s")
        values.append(wanted.upto)
    parts, parameters = [_HEADER], list[Any]()
    if wanted.count:
        parts.append(_COUNT.format(where=sql.SQL(" AND ".join(where))))
        parameters += values
    if wanted.after is not None:
        created_at, seq = wanted.after
        where.append(f"(created_at, seq) {'<' if wanted.newest_first else '>'} (%s, %s)")
        values += [_EPOCH + timedelta(milliseconds=created_at), seq]
    order = sql.SQL("created_at DESC, seq DESC" if wanted.newest_first else "created_at, seq")
    parts.append(_EVENTS.format(columns=_COLUMNS, where=sql.SQL(" AND ".join(where)), order=order))
    parameters += [*values, wanted.limit]
    return sql.SQL(" UNION ALL ").join(parts), parameters


def _fetch(
    connection: Connection, statement: sql.Composable, parameters: Sequence[Any] | None
) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


_ATTEMPTS = 5
_PART_HEADER, _PART_COUNT, _PART_EVENT = range(3)

_COLUMNS = sql.SQL(
    "seq, id, (extract(epoch FROM created_at) * 1000)::bigint, email, environment, component, message, data"
)
_BY_ID = sql.SQL("SELECT {} FROM event WHERE id = %s").format(_COLUMNS)
_SPAN = sql.SQL("SELECT {columns} FROM event WHERE ({where}) AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s")

_DRAWN = sql.SQL("SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS drawn FROM event_seq_seq")

# The sequence is read before the locks: the CASE makes sure of it. Writers take the lock before they draw
# a seq and let go of it after their rows can be seen (see horizon.py).
_WRITERS = sql.SQL(
    "SELECT drawn, CASE WHEN drawn = %s THEN true ELSE NOT EXISTS ("
    "SELECT FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN (SELECT relid FROM pg_partition_tree('event'))"
    ") END FROM ({} OFFSET 0) AS sequence"
).format(_DRAWN)

_HEADER = sql.SQL(
    "SELECT 0 AS part, NULL::bigint, NULL::uuid, NULL::bigint, NULL, NULL, NULL, NULL, jsonb_build_object("
    "'watermark', (SELECT seq FROM watermark), 'epoch', (SELECT epoch FROM erasure_epoch),"
    " 'erased', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM erased),"
    " 'failed', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM index_failure),"
    " 'indexes', (SELECT coalesce(jsonb_agg(index_name ORDER BY month), '[]') FROM index_month),"
    " 'drawn', ({}), 'layout', (SELECT concat_ws('.', count(*), sum(inhrelid::bigint)) FROM pg_inherits"
    " WHERE inhparent = 'event'::regclass))"
).format(_DRAWN)
_COUNT = sql.SQL("SELECT 1, count(*), NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM event WHERE {where}")
_EVENTS = sql.SQL("(SELECT 2, {columns} FROM event WHERE {where} ORDER BY {order} LIMIT %s)")
