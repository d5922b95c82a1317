"""Erase the events that match a query: up to 10,000 events in one transaction, more events in batches.

An erasure is a row of table ``erasure``. Any process can continue a large erasure: the indexer, or the command that
requested it. A killed process loses nothing, because each batch is one transaction that also records the progress.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from eventsvc.errors import EventsHeld, LogError
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.months import MONTH
from eventsvc.log.progress import erased, erasures
from eventsvc.log.progress.erasures import Erasure, Hold
from eventsvc.log.progress.horizon import read_last_seq
from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.render import render
from eventsvc.query.to_sql import to_sql

AT_ONCE = 10_000  # events in one transaction
BATCH = 1_000
# Searches exclude events that are being erased by a list of seqs, and a long list makes searches slow.
_MOST_PENDING = 1_000
_PATIENCE = 60.0  # seconds for the indexer
_PAUSE = 0.1  # seconds between checks whether the indexer has caught up


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """A request for an erasure.

    Attributes:
        node: the query's tree; None for all events.
        asked_by: the name of the key or user.
        until_now: do not erase events that are stored after the request.
    """

    node: ast.Node | None
    reason: str
    asked_by: str
    until_now: bool = False

    @property
    def text(self) -> str:
        """The canonical query, with relative times resolved."""
        return "" if self.node is None else render(self.node)


@dataclass(frozen=True, slots=True)
class Preview:
    """The events that an erasure would erase, by month, and the events that each hold keeps."""

    months: tuple[tuple[date, int], ...]
    held: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        """The number of matching events."""
        return sum(count for _, count in self.months)


def preview(connection: Connection, node: ast.Node | None) -> Preview:
    """Count the events that an erasure would erase, without erasing any."""
    which = condition(node)
    with connection.cursor() as cursor:
        months = count_by_month(cursor, which)
        held = tuple(_count_held(cursor, which, erasures.read_holds(cursor)))
    return Preview(months, held)


def count_by_month(cursor: Any, which: Filter) -> tuple[tuple[date, int], ...]:
    """Count the matching events of each month, oldest month first."""
    cursor.execute(
        f"SELECT {MONTH}, count(*) FROM event WHERE {which.text} GROUP BY 1 ORDER BY 1",  # noqa: S608
        which.parameters,
    )
    return tuple((month, int(count)) for month, count in cursor.fetchall())


def begin(connection: Connection, request: ErasureRequest) -> Erasure:
    """Record an erasure. Up to 10,000 events are erased at once; for more, ``run_all`` must follow.

    Raises:
        EventsHeld: a hold keeps some of the events; nothing was erased.
        QueryError: the canonical query is too long to be parsed again later.
    """
    which = condition(parse_canonical(request.text))
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
            request.asked_by,
            request.reason,
            hashlib.sha256(request.text.encode()).hexdigest(),
            request.text,
            drawn if request.until_now else None,
            counted,
        )
        erasures.insert(cursor, new)
        if small:
            count = erased.erase(cursor, found, erasure_id=erasure_id)
            erasures.advance(cursor, erasure_id, erased=count, done_to=found.last_seq)
            erasures.finish(cursor, erasure_id)
    return _read(connection, erasure_id)


def _continue(connection: Connection, erasure: Erasure) -> Iterator[int]:
    """Continue a large erasure, batch by batch; yields the number of events in each batch.

    An erasure without ``upto`` reads the log twice: the second pass erases events that arrived during the first.
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
    """Erases matching events that no hold keeps, in batches, in seq order.

    Attributes:
        erasure_id: the erasure that records the progress and the events' ids; None for retention.
    """

    connection: Connection
    which: Filter
    erasure_id: str | None

    def run(self, *, after: int = 0, upto: int | None = None) -> Iterator[int]:
        """Erase in one pass over the log; yields the number of events in each batch.

        While many erased events wait for the indexer, the pass waits too, and yields 0.

        Args:
            after: begin after this seq.
            upto: end at this seq; None for the last seq drawn when the pass begins.

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
            time.sleep(time.monotonic() - began)  # leave half of the time to other work

    def _await_indexer(self) -> Iterator[int]:
        deadline = time.monotonic() + _PATIENCE
        while (pending := erased.count_erased(self.connection)) > _MOST_PENDING:
            if time.monotonic() > deadline:
                raise LogError(f"{pending:,} erased events wait for the indexer: is `eventsvc index` running?")
            yield 0
            time.sleep(_PAUSE)

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


def run_all(connection: Connection) -> Generator[int, None, None]:
    """Continue all unfinished erasures, oldest first, unless another process does so already."""
    with erasures.working(connection) as alone:
        if not alone:
            return
        for erasure in erasures.list_running(connection):
            yield from _continue(connection, erasure)


def condition(node: ast.Node | None) -> Filter:
    """Compile a query to SQL; None matches every event."""
    if node is None:
        return Filter()
    text, values = to_sql(node)
    return Filter(text, tuple(values))


def except_held(which: Filter, holds: Iterable[Hold]) -> Filter:
    """Exclude the events that holds keep."""
    for hold in holds:
        which &= ~condition(parse_canonical(hold.query))
    return which


def holds_keep(cursor: Any, which: Filter) -> bool:
    """Tell whether a hold keeps some of these events. Until the transaction ends, nobody can make a hold."""
    holds = erasures.read_holds(cursor, keep=True)
    return next(_count_held(cursor, which, holds), None) is not None


def parse_canonical(text: str) -> ast.Node | None:
    """Parse a canonical query, which has no relative times; "" matches every event."""
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
