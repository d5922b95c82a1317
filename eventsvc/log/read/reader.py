"""Read single events and pages; ask questions about the tail or the whole log, together with the state of the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeVar

import msgspec
from psycopg2 import sql

from eventsvc.errors import EventNotFound, LogTimeout, LogUnavailable, SeqNotReached
from eventsvc.event import Event
from eventsvc.log.citus import IS_DISTRIBUTED
from eventsvc.log.connection import Connection, Pool, fetch
from eventsvc.log.filter import Filter
from eventsvc.log.prepared import Prepared
from eventsvc.log.progress.erased import read_epoch
from eventsvc.log.progress.horizon import LAST_SEQ, WRITERS, Horizon, read_last_seq
from eventsvc.log.read.batches import Batch
from eventsvc.log.read.page import FoundQuestion
from eventsvc.log.read.replica import Needed, NoReplica, Replicas, needed_position
from eventsvc.log.read.state import COLUMNS, HEADER, PART_HEADER, LogAnswer, LogState, Question, Row
from eventsvc.paging import MOST_LARGE_WAITING
from eventsvc.turns import Turns

T = TypeVar("T")

_BY_ID = sql.SQL("SELECT {columns} FROM event WHERE id = %s AND ({where})")
_SPAN = sql.SQL(
    "SELECT {columns}, found FROM (SELECT *, count(*) OVER () AS found, coalesce("
    "sum(length(message) + length(data::text)) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0"
    ") AS before FROM (SELECT * FROM event WHERE ({where}) AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s) AS page"
    ") AS sized WHERE before < %s ORDER BY seq"
)

# The CASE makes PostgreSQL read the sequence before the locks. Writers take the lock before they draw a seq, and
# release it after their rows are visible (see horizon.py). On Citus, a worker may have still to commit its part.
_WRITERS = Prepared(
    sql.SQL(
        "SELECT drawn, CASE WHEN drawn = %s THEN true ELSE NOT ({} OR EXISTS (SELECT {})) END"
        " FROM ({} OFFSET 0) AS sequence (drawn)"
    ).format(sql.SQL(IS_DISTRIBUTED), sql.SQL(WRITERS), sql.SQL(LAST_SEQ))
)
_STATE = Prepared(HEADER)
_AHEAD = Prepared(
    sql.SQL(
        "SELECT coalesce(max(occurred_at - event_occurred(NULL, created_at)), 0) FROM event"
        " WHERE occurred_at > event_occurred(NULL, created_at)"
    )
)

_IN_INDEX = sql.SQL("SELECT seq >= %s FROM watermark")
_LATE_WRITERS, _POLL = 3.0, 0.02  # seconds

MOST_WAITING = 32  # searches of the whole log, under way or waiting, in one process
_MOST_HEAVY_WAITING = 8  # heavy searches that may wait in one process


class Reader:
    """Reads the log through pools of connections. Each statement is one snapshot.

    Searches of the whole log, and heavy searches of the tail, may take seconds. They have a pool of their own, so that
    no other read waits behind them. At most ``MOST_WAITING`` searches of the whole log that are not heavy run or wait.
    Of the heavy searches, one runs and eight wait, so that other searches have the rest of the pool.

    Large pages use half of the connections of the other pool. Otherwise many clients that ask for large pages at the
    same time would delay all small reads, and take the processor from the event loop.
    """

    def __init__(self, pool: Pool, replicas: Replicas | None = None, *, whole: Pool | None = None) -> None:
        self._pool, self._replicas, self._whole_pool = pool, replicas, whole or pool
        self._heavy, self._light = Turns(1, _MOST_HEAVY_WAITING), Turns(MOST_WAITING, 0)
        self._large = Turns(max(1, pool.size // 2), MOST_LARGE_WAITING)
        self._epoch: int | None = None  # the highest erasure epoch that the primary has given
        self._settled = -1  # the last seq drawn at a time when no writer was under way

    async def by_id(self, event_id: str, matching: Filter) -> Event:
        """Read one event.

        Raises:
            EventNotFound: no matching event has this id.
            LogUnavailable: PostgreSQL is away.
        """
        statement = _BY_ID.format(columns=COLUMNS, where=sql.SQL(matching.text))
        parameters = (event_id, *matching.parameters)
        rows = await self._pool.run(lambda connection: fetch(connection, statement, parameters))
        if not rows:
            raise EventNotFound(event_id)
        return Event(*rows[0])

    async def tail(
        self, matching: Filter, question: Question[T], base: LogState, *, large: bool = False, anew: bool = True
    ) -> LogAnswer[T]:
        """Ask about the matching events that the index does not hold, given an earlier state of the log.

        These are the events past the watermark of that state, and the events that the index had refused.
        ``LogState.extends`` tells whether the index's answer about that state still holds.

        Args:
            matching: selects the events.
            question: what is asked about the events.
            base: the earlier state.
            large: the answer may be a large page (see ``paging.LARGE``).
            anew: read the state of the log anew in any case. If not, and no event has come since the earlier state,
                whose events are all in the index, the answer is empty and about the earlier state.

        Raises:
            SearchesQueued: the query is heavy or the answer is large, and too many such reads wait already.
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        past = Filter("seq > %s", (base.watermark,))
        if base.refused:
            past = Filter("seq > %s OR seq = ANY (%s)", (base.watermark, list(base.refused)))

        def read(connection: Connection) -> LogAnswer[T]:
            return self._read(connection, past & matching, question, None if anew else base)

        if matching.is_heavy:
            async with self._heavy:
                return await self._whole_pool.run(read)
        return await self._run_along_index(read, large=large)

    async def found(self, question: FoundQuestion) -> LogAnswer[tuple[Event, ...]]:
        """Read the events that the index has found for a page. The answer is never ``settled``.

        Raises:
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        answer = await self._pool.run(lambda connection: _ask_found(connection, question))
        self._see(answer.state.epoch)
        return answer

    async def along_index(self, matching: Filter, question: Question[T], *, large: bool = False) -> LogAnswer[T]:
        """Ask about all matching events a question for which PostgreSQL only reads a part of an index.

        Such a statement takes milliseconds, so it does not wait behind other searches of the whole log.

        Raises:
            SearchesQueued: the answer is large, and too many such reads wait already.
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        return await self._run_along_index(lambda connection: self._read(connection, matching, question), large=large)

    async def _run_along_index(self, read: Callable[[Connection], T], *, large: bool) -> T:
        async with self._large if large else nullcontext():
            return await self._pool.run(read)

    async def whole(self, matching: Filter, question: Question[T], *, strong: bool = True) -> LogAnswer[T]:
        """Ask about all matching events. A replica answers if one has replayed far enough.

        Raises:
            SearchesQueued: too many searches of the whole log wait already.
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        async with self._heavy if matching.is_heavy else self._light:
            return await self._ask_whole(matching, question, strong=strong)

    async def _ask_whole(self, matching: Filter, question: Question[T], *, strong: bool) -> LogAnswer[T]:
        if self._replicas:
            needed = await self._read_needed(strong=strong)
            with suppress(NoReplica):
                return await self._replicas.run(lambda c: _ask(c, matching, question), needed=needed)
        return await self._whole_pool.run(lambda connection: self._read(connection, matching, question))

    async def _read_needed(self, *, strong: bool) -> Needed:
        """Ask the primary which state a replica must have reached before it may run a search.

        No read shows erased events, so even for a read that need not be strong the replica must have the newest erasure
        epoch. While the primary is away, this is the newest epoch that this process has seen.
        """
        if strong:
            return Needed(position=await self._pool.run(needed_position))
        try:
            epoch = await self._pool.run(read_epoch)
        except LogUnavailable:
            if self._epoch is None:
                raise
            return Needed(epoch=self._epoch)
        self._see(epoch)
        return Needed(epoch=epoch)

    def _see(self, epoch: int) -> None:
        self._epoch = max(epoch, self._epoch or 0)

    async def state(self) -> LogState:
        """Read the state of the log.

        Raises:
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        state = _read_state(await self._pool.run(_STATE.fetch))
        self._see(state.epoch)
        return state

    async def ahead(self) -> int:
        """Read how many nanoseconds the clock of a sender was ahead of ours at most: occurredAt minus createdAt.

        Raises:
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        ((nanoseconds,),) = await self._pool.run(_AHEAD.fetch)
        return int(nanoseconds)

    async def settle(self, seq: int) -> None:
        """Make sure that no further event can appear up to a seq.

        Raises:
            SeqNotReached: no event has drawn this seq yet.
            SearchesQueued: too many searches of the whole log wait already.
            LogTimeout: a writer that may have drawn a seq up to this one is still under way.
        """
        # The watermark is below the horizon, so for most seqs this small statement is enough.
        if not await self._pool.run(lambda connection: fetch(connection, _IN_INDEX, (seq,))[0][0]):
            async with self._light:
                await self._whole_pool.run(lambda connection: _wait_for_horizon(connection, seq))

    async def span(self, matching: Filter, *, after: int, upto: int, limit: int, size: int) -> Batch:
        """Read matching events with after < seq ≤ upto, in seq order, until they have so many characters of text.

        Both bounds must be at or below the horizon.

        Raises:
            LogUnavailable: PostgreSQL is away.
            LogTimeout: PostgreSQL took too long.
        """
        statement = _SPAN.format(columns=COLUMNS, where=sql.SQL(matching.text))
        parameters = (*matching.parameters, after, upto, limit, size)
        rows = await self._pool.run(lambda connection: fetch(connection, statement, parameters))
        events = tuple(Event(*row[:-1]) for row in rows)
        whole = not rows or (len(rows) == rows[0][-1] < limit)
        return Batch(events, upto if whole else events[-1].seq, 0)

    def _read(
        self, connection: Connection, matching: Filter, question: Question[T], base: LogState | None = None
    ) -> LogAnswer[T]:
        quiet, drawn = self._look_for_writers(connection)
        if base is not None and quiet and drawn == base.drawn == base.watermark and not base.refused:
            # PERF: to plan the statement would take PostgreSQL longer than all other work on a quiet log.
            return LogAnswer(question.decode(()), base, settled=True)
        answer = _ask(connection, matching, question, settled_at=drawn if quiet else None)
        self._see(answer.state.epoch)
        return answer

    def _look_for_writers(self, connection: Connection) -> tuple[bool, int]:
        """Tell whether every seq drawn by now is committed or rolled back. Call this before the snapshot is taken."""
        ((drawn, quiet),) = _WRITERS.fetch(connection, (self._settled,))
        if quiet:
            self._settled = drawn
        return quiet, drawn


def _wait_for_horizon(connection: Connection, seq: int) -> None:
    horizon, deadline = Horizon(connection), time.monotonic() + _LATE_WRITERS
    while horizon.poll() < seq:
        if (last := read_last_seq(connection)) < seq:
            raise SeqNotReached(seq, last)
        if time.monotonic() > deadline:
            raise LogTimeout(f"an event up to seq {seq} is still being written")
        time.sleep(_POLL)


def _ask(
    connection: Connection, matching: Filter, question: Question[T], *, settled_at: int | None = None
) -> LogAnswer[T]:
    parts = question.compose(matching)
    statement = sql.SQL(" UNION ALL ").join([HEADER, *(text for text, _ in parts)])
    rows = fetch(connection, statement, [value for _, values in parts for value in values])
    state = _read_state(rows)
    return LogAnswer(question.decode(rows), state, settled=settled_at == state.drawn)


def _ask_found(connection: Connection, question: FoundQuestion) -> LogAnswer[tuple[Event, ...]]:
    text, parameters = question.compose()
    rows = Prepared(HEADER + sql.SQL(" UNION ALL ") + text).fetch(connection, parameters)
    return LogAnswer(question.decode(rows), _read_state(rows), settled=False)


def _read_state(rows: Sequence[Row]) -> LogState:
    # UNION ALL promises no order of its parts.
    header = next(row for row in rows if row[0] == PART_HEADER)
    return msgspec.json.decode(header[-1], type=LogState)
