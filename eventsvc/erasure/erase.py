"""Erase the events that match a query: up to 10,000 in one transaction, more of them batch by batch.

An erasure is a row of table ``erasure``. A large one goes on wherever a process takes it up: in the indexer's
upkeep, or in the command that asked for it. A process that is killed loses nothing: each batch is one transaction
that also notes how far the erasure has come.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from eventsvc.errors import EventsHeld, LogError
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.filter import EVERYTHING, Filter
from eventsvc.log.progress import erased, erasures
from eventsvc.log.progress.erasures import Erasure, Hold
from eventsvc.log.progress.horizon import read_last_seq
from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.render import render
from eventsvc.query.to_sql import to_sql

AT_ONCE = 10_000  # events in one transaction
BATCH = 2_000
# Searches leave out what is being erased by a list of seqs; a long list makes them slow.
MOST_PENDING = 4_000
PATIENCE = 60.0  # seconds for the indexer
PAUSE = 0.2  # seconds between looks at whether the indexer has caught up


@dataclass(frozen=True, slots=True)
class Wanted:
    """An erasure to be.

    Attributes:
        node: which events; None for all.
        asked_by: the key or user who asks.
        until_now: leave events alone that are stored after the erasure was asked for.
    """

    node: ast.Node | None
    reason: str
    asked_by: str
    until_now: bool = False

    @property
    def text(self) -> str:
        """The canonical query; times relative to now are resolved in it."""
        return "" if self.node is None else render(self.node)


@dataclass(frozen=True, slots=True)
class Preview:
    """What an erasure would take: events by month, and by name of the holds that forbid it."""

    months: tuple[tuple[date, int], ...]
    held: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        """All events that match."""
        return sum(count for _, count in self.months)


def preview(connection: Connection, node: ast.Node | None) -> Preview:
    """Count what an erasure would take, without erasing anything."""
    which = condition(node)
    with connection.cursor() as cursor:
        months = count_by_month(cursor, which)
        held = tuple(_count_held(cursor, which, erasures.read_holds(cursor)))
    return Preview(months, held)


def count_by_month(cursor: Any, which: Filter) -> tuple[tuple[date, int], ...]:
    """Count the matching events of each month, oldest month first."""
    cursor.execute(
        "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC')::date, count(*) FROM event"  # noqa: S608
        f" WHERE {which.text} GROUP BY 1 ORDER BY 1",
        which.parameters,
    )
    return tuple((month, int(count)) for month, count in cursor.fetchall())


def begin(connection: Connection, wanted: Wanted) -> Erasure:
    """Erase up to 10,000 events now; of more, only record that they are to be erased.

    Raises:
        EventsHeld: a hold keeps some of the events; nothing was erased.
        QueryError: the canonical query is too long to be read again when the erasure goes on.
    """
    which = condition(parse_canonical(wanted.text))
    erasure_id = str(uuid.uuid4())
    with transaction(connection) as cursor:
        holds = erasures.read_holds(cursor, keep=True)
        if held := tuple(_count_held(cursor, which, holds)):
            raise EventsHeld(held)
        drawn = read_last_seq(connection)
        found = erased.find(cursor, which, after=0, upto=drawn, limit=AT_ONCE + 1)
        small = len(found.ids) <= AT_ONCE
        counted = len(found.ids) if small else _count(cursor, which)
        new = erasures.NewErasure(
            erasure_id,
            wanted.asked_by,
            wanted.reason,
            hashlib.sha256(wanted.text.encode()).hexdigest(),
            wanted.text,
            drawn if wanted.until_now else None,
            counted,
        )
        erasures.insert(cursor, new)
        if small:
            count = erased.erase(cursor, found, erasure_id=erasure_id)
            erasures.advance(cursor, erasure_id, erased=count, done_to=found.last_seq)
            erasures.finish(cursor, erasure_id)
    return _read(connection, erasure_id)


def go_on(connection: Connection, erasure: Erasure) -> Iterator[int]:
    """Erase the rest of a large erasure, batch by batch; yields how many events each batch took.

    An erasure without ``upto`` goes over the log twice: the second pass takes what was stored while the first ran.
    """
    which = condition(parse_canonical(erasure.query or ""))
    batches = Batches(connection, which, erasure_id=erasure.id)
    yield from batches.run(after=erasure.done_to, upto=erasure.upto)
    if erasure.upto is None:
        yield from batches.run()
    with transaction(connection) as cursor:
        erasures.finish(cursor, erasure.id)


@dataclass(frozen=True, slots=True)
class Batches:
    """Erases by batches, in the order of seq, what matches and no hold keeps.

    Attributes:
        erasure_id: notes the progress there and remembers the events' ids; None for retention.
    """

    connection: Connection
    which: Filter
    erasure_id: str | None

    def run(self, *, after: int = 0, upto: int | None = None) -> Iterator[int]:
        """Erase one pass over the log; yields how many events each batch took.

        While many events of the last batches wait for the indexer, the pass waits too, and yields 0.

        Args:
            after: begin past this seq.
            upto: end at this seq; None for the last one drawn when the pass begins.

        Raises:
            LogError: the indexer does not remove the documents of erased events.
        """
        upto = read_last_seq(self.connection) if upto is None else upto
        while True:
            yield from self._await_indexer()
            began = time.monotonic()
            count, last = self._erase_one(after, upto)
            if last is None:
                return
            after = last
            yield count
            time.sleep(time.monotonic() - began)  # half of the time belongs to the others

    def _await_indexer(self) -> Iterator[int]:
        deadline = time.monotonic() + PATIENCE
        while (pending := erased.count_erased(self.connection)) > MOST_PENDING:
            if time.monotonic() > deadline:
                raise LogError(f"{pending:,} erased events wait for the indexer: is `eventsvc index` running?")
            yield 0
            time.sleep(PAUSE)

    def _erase_one(self, after: int, upto: int) -> tuple[int, int | None]:
        with transaction(self.connection) as cursor:
            kept = except_held(self.which, erasures.read_holds(cursor, keep=True))
            found = erased.find(cursor, kept, after=after, upto=upto, limit=BATCH)
            if not found.ids:
                return 0, None
            count = erased.erase(cursor, found, erasure_id=self.erasure_id)
            if self.erasure_id is not None:
                erasures.advance(cursor, self.erasure_id, erased=count, done_to=found.last_seq)
        return count, found.last_seq


def run_all(connection: Connection) -> Iterator[int]:
    """Go on with every erasure that is not done, oldest first, unless another process does so already."""
    with erasures.working(connection) as alone:
        if not alone:
            return
        for erasure in erasures.list_running(connection):
            yield from go_on(connection, erasure)


def condition(node: ast.Node | None) -> Filter:
    """Give the SQL of a query; None matches every event."""
    if node is None:
        return EVERYTHING
    text, values = to_sql(node)
    return Filter(text, tuple(values))


def except_held(which: Filter, holds: Iterable[Hold]) -> Filter:
    """Leave out what the holds keep."""
    for hold in holds:
        which &= ~condition(parse_canonical(hold.query))
    return which


def holds_keep(cursor: Any, which: Filter) -> bool:
    """Tell whether a hold keeps some of these events, and let nobody make a hold before the transaction ends."""
    holds = erasures.read_holds(cursor, keep=True)
    return next(_count_held(cursor, which, holds), None) is not None


def parse_canonical(text: str) -> ast.Node | None:
    """Read a canonical query, which names no time relative to now; "" matches every event."""
    return parse(text, now=0) if text else None


def _count(cursor: Any, which: Filter) -> int:
    cursor.execute(f"SELECT count(*) FROM event WHERE {which.text}", which.parameters)  # noqa: S608
    ((count,),) = cursor.fetchall()
    return int(count)


def _count_held(cursor: Any, which: Filter, holds: Iterable[Hold]) -> Iterator[tuple[str, int]]:
    for hold in holds:
        if count := _count(cursor, which & condition(parse_canonical(hold.query))):
            yield hold.name, count


def _read(connection: Connection, erasure_id: str) -> Erasure:
    found = erasures.read(connection, erasure_id)
    assert found is not None  # noqa: S101  (it was inserted just now)
    return found
