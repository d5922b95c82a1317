"""Checkpoint and watermark: how far the index has come along the log.

Only a caller that knows the current fence can move them. A leader draws the next fence at the beginning of its term.
Every change that makes a leader's knowledge void (a replaced or lost index) draws the next fence, too. The watermark
falls only together with a new fence:

    leader A             leader B             table watermark
    draws fence 7                             fence 7
    hangs                takes the lock,
                         draws fence 8        fence 8
    wakes up, moves
    with fence 7                              nothing moves: leader A gets Fenced
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventsvc.errors import Fenced
from eventsvc.log.connection import Connection, fetch

# The number of an advisory lock, the same in all indexers. The lock counts within one database.
_LEADER_LOCK = 0x696E646578

# A fence is the time in ms, or the last fence plus 1 if that is higher. Fences are also the versions of documents. So
# they must grow even if the log is restored to an older state, which does not know the last fences.
_NEXT_FENCE = "greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"


_LEADERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"  # noqa: S608
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND (classid::bigint << 32) | objid::bigint = {_LEADER_LOCK}"
)
# True if an index holds events, or a leader may write some. Then erased events must be removed from the index, too.
INDEX_IN_USE = f"(EXISTS (SELECT FROM index_month) OR EXISTS ({_LEADERS}))"


@dataclass(frozen=True, slots=True)
class Mark:
    """The table ``watermark`` at one moment.

    Attributes:
        checkpoint: every event up to this seq was written to the index or refused by the index.
        seq: the watermark. Every event up to this seq is visible to searches, or was refused.
        fence: the current fence, which a caller must name to move the checkpoint and the watermark.
    """

    checkpoint: int
    seq: int
    fence: int


def try_lead(connection: Connection) -> bool:
    """Take the leader's lock if it is free. The session holds the lock until it ends."""
    ((taken,),) = fetch(connection, "SELECT pg_try_advisory_lock(%s)", (_LEADER_LOCK,))
    return bool(taken)


# A hung client shows as a session that waits for its client, inside or outside a transaction, or as a result that
# nobody fetches. An active session may also run a long statement, so its silence must last ten times as long.
_DEPOSE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = %(leader)s AND (state <> 'active' OR wait_event_type = 'Client') AND state_change < clock_timestamp()
      - make_interval(secs => CASE state WHEN 'active' THEN 10 * %(silence)s ELSE %(silence)s END)
"""


def depose_hung_leader(connection: Connection, silence: float) -> None:
    """End the leader's session if it has sent nothing for so many seconds: its process hangs, or its machine is gone.

    A leader that works is never silent for longer than a second (see ``indexer``). A leader that wakes up again finds
    its session closed and its fence out of date.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DEPOSE, {"leader": find_leader(connection), "silence": silence})


def find_leader(connection: Connection) -> int | None:
    """Find the leader's session: its process id in PostgreSQL; None if there is no leader."""
    with connection.cursor() as cursor:
        cursor.execute(_LEADERS)
        rows = cursor.fetchall()
    return int(rows[0][0]) if rows else None


def read(connection: Connection) -> Mark:
    """Read checkpoint, watermark and fence."""
    ((checkpoint, seq, fence),) = fetch(connection, "SELECT checkpoint, seq, fence FROM watermark")
    return Mark(checkpoint, seq, fence)


def draw_fence(connection: Connection) -> Mark:
    """Draw the next fence, which makes all earlier fences invalid."""
    with connection.cursor() as cursor:
        return draw_fence_within(cursor)


def draw_fence_within(cursor: Any) -> Mark:
    """Draw the next fence. Runs inside the caller's transaction, until whose end nobody can move the watermark."""
    cursor.execute(f"UPDATE watermark SET fence = {_NEXT_FENCE} RETURNING checkpoint, seq, fence")  # noqa: S608
    ((checkpoint, seq, fence),) = cursor.fetchall()
    return Mark(checkpoint, seq, fence)


def move(connection: Connection, fence: int, *, checkpoint: int, seq: int) -> None:
    """Move the checkpoint and the watermark forward.

    Raises:
        Fenced: another fence was drawn meanwhile, or the checkpoint or the watermark is further already.
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
    """Let nobody draw a fence until the caller's transaction ends.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    cursor.execute("SELECT FROM watermark WHERE fence = %s FOR UPDATE", (fence,))
    if cursor.rowcount == 0:
        raise Fenced("the watermark belongs to another leader now")


def fall_back(cursor: Any, to: int) -> None:
    """Lower checkpoint and watermark to ``to`` at most, and draw the next fence. In the caller's transaction."""
    cursor.execute(
        f"UPDATE watermark SET checkpoint = least(checkpoint, %s), seq = least(seq, %s), fence = {_NEXT_FENCE},"  # noqa: S608
        " moved_at = clock_timestamp()",
        (to, to),
    )
