"""The horizon: the highest seq up to which no event can still appear.

Commit order differs from seq order, so a reader that remembers the highest seq it has seen loses events. The horizon
follows the rule of CREATE INDEX CONCURRENTLY. Read the last value S of the sequence. Then list the transactions that
hold the lock which every writer takes before it draws a seq. Once none of these transactions is left, every event with
seq ≤ S is committed or will never exist. Writers are never blocked.

On Citus, a writer may lose its lock on the coordinator before a worker has committed its part. So once no writer is
left on the coordinator, the horizon lists the transactions that hold the lock on a worker, and waits for these too.
"""

from __future__ import annotations

from eventsvc.log.citus import IS_DISTRIBUTED, list_writers_on_workers
from eventsvc.log.connection import Connection, fetch

# The last seq that was drawn, whether its event is committed, under way or rolled back. A sequence that was never used
# has last_value 1, too.
LAST_SEQ = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM event_seq_seq"
BEYOND_ALL = 2**62  # a seq that no event will ever have
_LAST_SEQ_AND_PLACE = f"SELECT ({LAST_SEQ}), {IS_DISTRIBUTED}"

# INSERT and COPY lock the parent, whichever partition a row goes to. The partitions are listed too, because somebody
# may write to a partition directly. A transaction that still waits for the lock has drawn no seq yet, and will draw one
# beyond S. pg_locks shows a lock until the commit of its transaction is visible to us.
WRITERS = """
    FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation IN (SELECT relid FROM pg_partition_tree('event'))
"""


def read_last_seq(connection: Connection) -> int:
    """Read the last seq that was drawn, whether its event is committed, under way or rolled back; 0 for none."""
    ((seq,),) = fetch(connection, LAST_SEQ)
    return int(seq)


class Horizon:
    """Computes the horizon in one session, whose connection must be in autocommit mode.

    The proof needs the two statements in this order, each with a snapshot of its own, so outside of any transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._horizon = self._candidate = 0
        self._writers: frozenset[str] = frozenset()
        self._on_workers: frozenset[str] | None = None  # None: not listed yet
        self._distributed = False

    def poll(self) -> int:
        """Compute the horizon as far as possible now. Never waits for a writer."""
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


# PostgreSQL ends a session that is idle in a transaction, but not a session that waits for the next block of a COPY:
# neither statement_timeout nor transaction_timeout applies there (tried with version 18).
_WAITING_COPIES = """
    SELECT pid, copy.bytes_processed FROM pg_stat_progress_copy AS copy JOIN pg_stat_activity USING (pid)
    WHERE relid = 'event'::regclass AND copy.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND wait_event = 'ClientRead' AND application_name LIKE 'eventsvc%'
"""


class FrozenCopies:
    """Ends every COPY of ours whose process has sent nothing between two calls, because it would stop the horizon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._before: frozenset[tuple[int, int]] = frozenset()

    def end(self) -> list[int]:
        """End the sessions that have waited for their client since the last call; return their process ids."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WAITING_COPIES)
            waiting = frozenset((pid, done) for pid, done in cursor)
            frozen = sorted(pid for pid, _ in waiting & self._before)
            self._before = waiting
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (frozen,))
        return frozen
