"""Checkpoint and watermark: how far along the log the index is.

Moved only by whoever knows the current fence. A leader draws the next one when it takes the advisory lock; so
does every other change that makes void what a leader has read (a swapped or lost index). The watermark falls
only together with a new fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventsvc.errors import Fenced
from eventsvc.log.connection import Connection

# Any constant will do, as long as every indexer takes the same one; it counts within one database.
_LEADER_LOCK = 0x696E646578

# The time in ms, unless that would not be higher. Fences are the versions of documents too, and must be higher than
# all before even when the log is restored to an older state, in which it has forgotten the last ones.
_NEXT_FENCE = "greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"


_LEADERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"  # noqa: S608
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND (classid::bigint << 32) | objid::bigint = {_LEADER_LOCK}"
)
# True when an index holds events, or a leader may write some: then erased events must be removed from the index too.
INDEX_IN_USE = f"(EXISTS (SELECT FROM index_month) OR EXISTS ({_LEADERS}))"


@dataclass(frozen=True, slots=True)
class Mark:
    """One reading.

    Attributes:
        checkpoint: every event up to this seq was written to the index, or refused by it.
        seq: the watermark: everything up to it is visible to searches.
        fence: whoever knows it may move them.
    """

    checkpoint: int
    seq: int
    fence: int


def try_lead(connection: Connection) -> bool:
    """Take the leader's lock if nobody has it; it is held until the session ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LEADER_LOCK,))
        ((taken,),) = cursor.fetchall()
    return bool(taken)


# A session that waits for its client, whether it is inside a transaction or not, or has a result that nobody fetches.
# A statement that runs for long is no sign of a hung client, so there the wait must have lasted ten times as long.
_DEPOSE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = %(leader)s AND (state <> 'active' OR wait_event_type = 'Client') AND state_change < clock_timestamp()
      - make_interval(secs => CASE state WHEN 'active' THEN 10 * %(silence)s ELSE %(silence)s END)
"""


def depose_hung_leader(connection: Connection, silence: float) -> None:
    """End the leader's session if it has said nothing for so many seconds: its process hangs, or its machine is gone.

    Leaders are never silent for longer than a second (see ``indexer``). One that wakes up again finds its session
    broken and everything that it might still move fenced.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DEPOSE, {"leader": find_leader(connection), "silence": silence})


def find_leader(connection: Connection) -> int | None:
    """Give the process id, within PostgreSQL, of the session that leads; None if nobody does."""
    with connection.cursor() as cursor:
        cursor.execute(_LEADERS)
        rows = cursor.fetchall()
    return int(rows[0][0]) if rows else None


def read(connection: Connection) -> Mark:
    """Read without changing anything."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT checkpoint, seq, fence FROM watermark")
        ((checkpoint, seq, fence),) = cursor.fetchall()
    return Mark(checkpoint, seq, fence)


def draw_fence(connection: Connection) -> Mark:
    """Draw the next fence, from now on the only valid one."""
    with connection.cursor() as cursor:
        return draw_fence_within(cursor)


def draw_fence_within(cursor: Any) -> Mark:
    """Draw the next fence within the caller's transaction: till its end the watermark stands still."""
    cursor.execute(f"UPDATE watermark SET fence = {_NEXT_FENCE} RETURNING checkpoint, seq, fence")  # noqa: S608
    ((checkpoint, seq, fence),) = cursor.fetchall()
    return Mark(checkpoint, seq, fence)


def move(connection: Connection, fence: int, *, checkpoint: int, seq: int) -> None:
    """Move both forward.

    Raises:
        Fenced: another fence was drawn meanwhile, or they are further already.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE watermark SET checkpoint = %s, seq = %s, moved_at = clock_timestamp()"
            " WHERE fence = %s AND checkpoint <= %s AND seq <= %s",
            (checkpoint, seq, fence, checkpoint, seq),
        )
        if cursor.rowcount == 0:
            raise Fenced("the watermark belongs to another leader now")


def hold(cursor: Any, fence: int) -> None:
    """Keep the fence as it is until the caller's transaction ends.

    Raises:
        Fenced: another one was drawn meanwhile.
    """
    cursor.execute("SELECT FROM watermark WHERE fence = %s FOR UPDATE", (fence,))
    if cursor.rowcount == 0:
        raise Fenced("the watermark belongs to another leader now")


def fall_back(cursor: Any, to: int) -> None:
    """Within the caller's transaction, let both fall to ``to`` at most, and draw the next fence."""
    cursor.execute(
        f"UPDATE watermark SET checkpoint = least(checkpoint, %s), seq = least(seq, %s), fence = {_NEXT_FENCE},"  # noqa: S608
        " moved_at = clock_timestamp()",
        (to, to),
    )
