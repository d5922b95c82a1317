"""Streaming replicas. They serve eventual reads at any time, and strong reads once they have replayed far enough."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from eventsvc.breaker import Breaker
from eventsvc.errors import LogError, LogTimeout
from eventsvc.log.connection import Connection, Pool, fetch

T = TypeVar("T")

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Needed:
    """The state that a replica must have reached before it serves a read.

    Attributes:
        epoch: the erasure epoch, so that the replica shows no erased event; None if it does not matter.
        position: the position in the write-ahead log; None if the read need not be strong.
    """

    epoch: int | None = None
    position: str | None = None


class NoReplica(LogError):
    """No replica can serve this read now."""


class Replicas:
    """Asks replicas in turn, and passes over replicas that are away or behind."""

    def __init__(self, dsns: Sequence[str], *, size: int, statement_timeout: float) -> None:
        self._replicas = [_Replica(Pool(dsn, size=size, statement_timeout=statement_timeout)) for dsn in dsns]
        self._turn = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._replicas)

    async def run(self, work: Callable[[Connection], T], *, needed: Needed) -> T:
        """Run ``work(connection)`` on a replica.

        Args:
            work: runs one statement. Its snapshot is at least as new as the needed state.
            needed: the state that the replica must have reached.

        Raises:
            NoReplica: no replica can serve this read.
            LogTimeout: the statement took too long.
        """
        first = next(self._turn)
        for place in range(len(self._replicas)):
            replica = self._replicas[(first + place) % len(self._replicas)]
            try:
                answer = await replica.run(work, needed)
            except LogTimeout:
                raise
            except LogError as exc:
                replica.note(str(exc))
            else:
                replica.note("")
                return answer
        raise NoReplica("no replica can serve this read")

    async def close(self) -> None:
        """Close every connection."""
        for replica in self._replicas:
            await replica.close()


class _Replica:
    """One replica. While it is away, only a probe in the background tries to reach it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._breaker = Breaker(self._probe, name="a replica")
        self._serves = True

    def note(self, reason: str) -> None:
        """Log when the replica stops and when it begins to serve reads, but not every read in between."""
        if self._serves == bool(reason):
            self._serves = not reason
            _logger.info("a replica serves reads again" if not reason else "a replica is passed over", reason=reason)

    async def run(self, work: Callable[[Connection], T], needed: Needed) -> T:
        """Run ``work(connection)`` if the replica has reached the needed state.

        Raises:
            NoReplica: the replica is away or behind, or is no longer a replica.
            LogTimeout: the statement took too long.
        """
        if not self._breaker.closed:
            raise NoReplica("it is away")
        began = time.monotonic()
        try:
            answer = await self._pool.run(lambda connection: _run_when_replayed(connection, work, needed))
        except LogTimeout:
            raise
        except LogError:
            self._breaker.failed(began)
            raise
        # An exception raised while the connection is lent would make the pool close it, so the answer is a value.
        if isinstance(answer, _Unfit):
            raise NoReplica(answer.reason)
        return answer

    async def _probe(self) -> None:
        answer = await self._pool.run(lambda connection: _run_when_replayed(connection, lambda _: None, Needed()))
        if answer is not None:
            raise NoReplica(answer.reason)

    async def close(self) -> None:
        """Stop probing and close every connection."""
        await self._breaker.close()
        self._pool.close()


def needed_position(connection: Connection) -> str:
    """Give the position in the primary's write-ahead log that covers every commit acknowledged by now.

    A commit is acknowledged once it is flushed, unless synchronous_commit is off.
    """
    ((position,),) = fetch(
        connection,
        "SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()"
        " ELSE pg_current_wal_flush_lsn() END",
    )
    return str(position)


@dataclass(frozen=True, slots=True)
class _Unfit:
    """The replica answers, but cannot serve this read."""

    reason: str


def _run_when_replayed(connection: Connection, work: Callable[[Connection], T], needed: Needed) -> T | _Unfit:
    """Check the replica, then run the work: its snapshot is at least as new as the state that was checked."""
    ((standby, far_enough),) = fetch(
        connection,
        "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= coalesce(%s::pg_lsn, '0/0'), false)"
        " AND (%s::bigint IS NULL OR (SELECT epoch FROM erasure_epoch) >= %s::bigint)",
        (needed.position, needed.epoch, needed.epoch),
    )
    if not standby:
        return _Unfit("it is no longer a replica, so nobody knows what it holds")
    return work(connection) if far_enough else _Unfit("it has not replayed far enough")
