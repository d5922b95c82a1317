"""Streaming replicas: they serve what need not be strong, and strong reads once they have replayed far enough."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from eventsvc.breaker import Breaker
from eventsvc.errors import LogError, LogTimeout
from eventsvc.log.connection import Connection, Pool

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class NoReplica(LogError):
    """No replica can serve this read now."""


class Replicas:
    """Some replicas, asked in turn; those that are away or behind are passed over."""

    def __init__(self, dsns: Sequence[str], *, size: int, statement_timeout: float) -> None:
        self._replicas = [Replica(Pool(dsn, size=size, statement_timeout=statement_timeout)) for dsn in dsns]
        self._turn = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._replicas)

    async def run(self, work: Callable[[Connection], T], *, replayed: str | None) -> T:
        """Run ``work(connection)`` on a replica.

        Args:
            work: one statement; it sees everything up to ``replayed``.
            replayed: a position in the write-ahead log; None when any state will do.

        Raises:
            NoReplica: none can.
            LogTimeout: it took too long.
        """
        first = next(self._turn)
        for place in range(len(self._replicas)):
            replica = self._replicas[(first + place) % len(self._replicas)]
            try:
                return await replica.run(work, replayed)
            except LogTimeout:
                raise
            except LogError as exc:
                _log.info("a replica is passed over", reason=str(exc))
        raise NoReplica("no replica can serve this read")

    async def close(self) -> None:
        """Close every connection."""
        for replica in self._replicas:
            await replica.close()


class Replica:
    """One replica; while it is away only a probe in the background looks for it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._breaker = Breaker(self._probe, name="a replica")

    async def run(self, work: Callable[[Connection], T], replayed: str | None) -> T:
        """Run ``work(connection)`` if the replica has replayed far enough."""
        if not self._breaker.closed:
            raise NoReplica("it is away")
        began = time.monotonic()
        try:
            return await self._pool.run(lambda connection: _run_when_replayed(connection, work, replayed))
        except (NoReplica, LogTimeout):
            raise
        except LogError:
            self._breaker.failed(began)
            raise

    async def _probe(self) -> None:
        await self._pool.run(lambda connection: _run_when_replayed(connection, lambda _: None, None))

    async def close(self) -> None:
        """Stop probing and close every connection."""
        await self._breaker.close()
        self._pool.close()


def needed_position(connection: Connection) -> str:
    """Give the position in the primary's write-ahead log that covers every commit acknowledged by now.

    A commit is acknowledged once it is flushed, unless the server was told not to wait for that.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()"
            " ELSE pg_current_wal_flush_lsn() END"
        )
        ((position,),) = cursor.fetchall()
    return str(position)


def _run_when_replayed(connection: Connection, work: Callable[[Connection], T], replayed: str | None) -> T:
    """Look first, read afterwards: the read's snapshot is then at least as new as what was looked at."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= coalesce(%s::pg_lsn, '0/0'), false)",
            (replayed,),
        )
        ((standby, far_enough),) = cursor.fetchall()
    if not standby:
        raise NoReplica("it is no longer a replica, so nobody knows what it holds")
    if not far_enough:
        raise NoReplica("it has not replayed far enough")
    return work(connection)
