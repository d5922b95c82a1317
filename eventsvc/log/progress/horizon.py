"""Horizon: the highest seq below which nothing can still appear.

Commit order differs from seq order, so whoever remembers "the highest seq I saw" loses events. The rule here is
the one of CREATE INDEX CONCURRENTLY: read the sequence's last value S, then list the transactions that hold the
lock which every writer takes before it draws a seq; once none of those is left, every event with seq ≤ S is
committed or will never exist. Writers are never blocked.

On Citus a writer may lose its lock on the coordinator before a worker has committed its part. So when the writers are
gone there, those that still hold the lock on a worker are listed, and waited for in the same way.
"""

from __future__ import annotations

from eventsvc.log.citus import IS_DISTRIBUTED, list_writers_on_workers
from eventsvc.log.connection import Connection

# The last seq that was drawn, by events committed, under way or given up. A sequence that was never used says
# last_value 1 as well.
LAST_SEQ = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM event_seq_seq"
_LAST_SEQ_AND_PLACE = f"SELECT ({LAST_SEQ}), {IS_DISTRIBUTED}"

# INSERT and COPY lock the parent, whichever partition the row goes to; the partitions are listed for the sake of
# those who write to one directly. A lock that is waited for (not granted) belongs to a transaction that has no
# seq yet: what it will draw lies beyond S. Rows stay visible in pg_locks until the commit is visible to us.
WRITERS = """
    FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation IN (SELECT relid FROM pg_partition_tree('event'))
"""


def read_last_seq(connection: Connection) -> int:
    """Read the last seq that was drawn, by an event that is committed, under way or given up; 0 for none."""
    with connection.cursor() as cursor:
        cursor.execute(LAST_SEQ)
        ((seq,),) = cursor.fetchall()
    return int(seq)


class Horizon:
    """The horizon as one session sees it; the connection must be in autocommit mode.

    Each statement must be one of its own, outside of any transaction: the order of the two is the proof.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._horizon = self._candidate = 0
        self._writers: frozenset[str] = frozenset()
        self._on_workers: frozenset[str] | None = None  # None: not listed yet
        self._distributed = False

    def poll(self) -> int:
        """Give the highest horizon known by now; never waits for a writer."""
        if self._candidate > self._horizon:
            self._settle(self._writers & self._list_writers())
        if self._candidate == self._horizon:
            self._candidate, self._on_workers = max(self._horizon, self._last_seq()), None
            if self._candidate > self._horizon:
                self._settle(self._list_writers())
        return self._horizon

    def _settle(self, left: frozenset[str]) -> None:
        self._writers = left
        if not left and self._is_settled_on_workers():
            self._horizon = self._candidate

    def _is_settled_on_workers(self) -> bool:
        if not self._distributed:
            return True
        writing = list_writers_on_workers(self._connection)
        self._on_workers = writing if self._on_workers is None else self._on_workers & writing
        return not self._on_workers

    def _last_seq(self) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(_LAST_SEQ_AND_PLACE)
            ((seq, self._distributed),) = cursor.fetchall()
        return int(seq)

    def _list_writers(self) -> frozenset[str]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT DISTINCT virtualtransaction {WRITERS}")
            return frozenset(name for (name,) in cursor)


# PostgreSQL ends a session that is idle in a transaction, but not one that waits for the next block of a COPY: neither
# statement_timeout nor transaction_timeout look at it there (tried with 18).
_WAITING_COPIES = """
    SELECT pid, copy.bytes_processed FROM pg_stat_progress_copy AS copy JOIN pg_stat_activity USING (pid)
    WHERE relid = 'event'::regclass AND copy.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND wait_event = 'ClientRead' AND application_name LIKE 'eventsvc%'
"""


class FrozenCopies:
    """Ends every COPY of ours whose process has sent nothing between two looks: it would hold the horizon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._before: frozenset[tuple[int, int]] = frozenset()

    def end(self) -> list[int]:
        """End the sessions that have waited for their client since the last call; give their processes' ids."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WAITING_COPIES)
            waiting = frozenset((pid, done) for pid, done in cursor)
            frozen = sorted(pid for pid, _ in waiting & self._before)
            self._before = waiting
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (frozen,))
        return frozen
