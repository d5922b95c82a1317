"""Read the log in seq order, a batch at a time, for the indexer, for rebuilds and for the live tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from eventsvc.event import Event
from eventsvc.log.connection import Connection, fetch, transaction
from eventsvc.log.months import MONTH, bounds
from eventsvc.log.progress.horizon import BEYOND_ALL
from eventsvc.log.read.state import EVENT_COLUMNS

_READ = f"SELECT {EVENT_COLUMNS} FROM event WHERE seq > %(after)s AND seq <= %(to)s"  # noqa: S608  (constants only)
_READ_MONTH = f"{_READ} AND created_at >= %(start)s AND created_at < %(end)s"
_ORDER = " ORDER BY seq LIMIT %(limit)s"

# So few events stay small, however large each is; and they are enough to keep round trips rare.
_FETCH = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of the log, or of one month of it.

    Attributes:
        events: the events, in seq order.
        reached: the batch is complete up to this seq.
        size: the number of characters of text in the batch.
    """

    events: tuple[Event, ...]
    reached: int
    size: int


def read_batch(
    connection: Connection,
    *,
    after: int,
    to: int,
    month: date | None = None,
    most: int = 5_000,
    most_characters: int = 4_000_000,
    fetch: int = _FETCH,
) -> Batch:
    """Read the events with after < seq ≤ to, up to the limits. The last ``fetch`` events may exceed the size."""
    start, end = bounds(month) if month else ("", "")
    events: list[Event] = []
    size = 0
    with transaction(connection) as cursor:
        cursor.execute(
            f"DECLARE batch NO SCROLL CURSOR FOR {_READ_MONTH if month else _READ}{_ORDER}",
            {"after": after, "to": to, "limit": most, "start": start, "end": end},
        )
        while size < most_characters and len(events) < most:
            cursor.execute(f"FETCH {fetch} FROM batch")
            rows = cursor.fetchall()
            events += (Event(*row) for row in rows)
            size += sum(len(row[-2]) + len(row[-1]) + 200 for row in rows)
            if len(rows) < fetch:
                return Batch(tuple(events), to if len(events) < most else events[-1].seq, size)
    return Batch(tuple(events), events[-1].seq, size)


def list_months_of(connection: Connection, *, after: int, to: int) -> list[date]:
    """List the months of the events with after < seq ≤ to."""
    rows = fetch(
        connection,
        f"SELECT DISTINCT {MONTH} FROM event WHERE seq > %s AND seq <= %s",  # noqa: S608  (a constant)
        (after, to),
    )
    return [month for (month,) in rows]


def read_events(connection: Connection, seqs: Sequence[int]) -> list[Event]:
    """Read single events; seqs without an event are left out."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {EVENT_COLUMNS} FROM event WHERE seq = ANY (%s) ORDER BY seq", (list(seqs),))  # noqa: S608
        return [Event(*row) for row in cursor]


def seq_at(connection: Connection, moment: datetime, *, at_end: bool) -> int:
    """Give the seq at which the events from a time on begin, or the seq at which the events before a time end.

    The order of seq is only nearly the order of createdAt, so a few events on the wrong side may be included.

    Args:
        connection: a connection to the log.
        moment: the time.
        at_end: False for the lowest seq of an event with createdAt ≥ moment, or BEYOND_ALL if there is no such event;
            True for the highest seq of an event with createdAt < moment, or 0.
    """
    condition = "max(seq) FROM event WHERE created_at < %s" if at_end else "min(seq) FROM event WHERE created_at >= %s"
    ((seq,),) = fetch(connection, f"SELECT {condition}", (moment,))
    return int(seq) if seq is not None else (0 if at_end else BEYOND_ALL)
