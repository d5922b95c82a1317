"""Store a group of single events in one transaction, and give the outcome of each event."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import errors as pg_errors

from eventsvc.errors import (
    CommitUnknown,
    EventGone,
    EventsvcError,
    KeyReused,
    KeyRunning,
    LogTimeout,
    LogUnavailable,
    WorkerUnavailable,
)
from eventsvc.event import Event, NewEvent
from eventsvc.log.async_connection import AsyncConnection
from eventsvc.log.citus import FIND_WORKERS, IS_DISTRIBUTED, TWO_PHASES
from eventsvc.log.connection import first_line, is_worker_lost
from eventsvc.log.write import idempotency
from eventsvc.log.write.commit_result import check_committed, check_confirmed, commit_error
from eventsvc.log.write.idempotency import lock_of
from eventsvc.log.write.insert_rows import PREPARE, insert
from eventsvc.log.write.repeated import find_stored, first_id

if TYPE_CHECKING:
    from eventsvc.log.write.idempotency import IdempotencyKey, Kept

_NAME = "eventsvc writer"
_STATEMENT_TIMEOUT = 8.0  # seconds
_PATIENCE = 10.0  # seconds until a server that hangs is given up
_CONNECTING = 5.0  # seconds at most
_RETRY_CONNECT = 0.5  # seconds in which a database that could not be reached is not asked again


@dataclass(frozen=True, slots=True)
class Single:
    """One event to be stored; with a key, at most once."""

    new: NewEvent
    key: IdempotencyKey | None


@dataclass(frozen=True, slots=True)
class Replay:
    """The event that an earlier request with the same key stored."""

    event: Event


Outcome = Event | Replay | EventsvcError


class GroupStore:
    """Stores groups of events through one connection. It opens a new connection if the old one broke."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: AsyncConnection | None = None
        self._is_distributed = False
        self._down_until = 0.0

    async def store(self, group: list[Single]) -> list[Outcome]:
        """Write a group in one transaction; returns after the COMMIT.

        Raises:
            WorkerUnavailable: a worker that stores some of the events does not answer; nothing was stored.
            LogUnavailable: PostgreSQL cannot be reached; nothing was stored.
            LogTimeout: PostgreSQL took too long before the COMMIT; nothing was stored.
            CommitUnknown: PostgreSQL did not confirm the COMMIT; the events may be stored.
            psycopg2.Error: PostgreSQL refused something in the group; nothing was stored.
        """
        fresh = self._connection is None
        try:
            return await self._store_once(group)
        except WorkerUnavailable:
            raise
        except LogUnavailable:
            if fresh:
                raise
            # The old connection broke before the COMMIT was sent, so nothing of it can have been stored.
            return await self._store_once(group)

    async def split(self, group: list[Single]) -> dict[str, list[int]]:
        """Group the events of a group by the worker of the log that stores them.

        Returns:
            For each worker, as "host:port", the indexes of its events in ``group``. Empty if the log is on one server,
            if PostgreSQL does not answer, or if the log is distributed by id: each attempt draws another id.
        """
        if not self._is_distributed:
            return {}
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = await self._connected()
                emails, components = [one.new.email for one in group], [one.new.component for one in group]
                rows = await connection.execute(FIND_WORKERS, (emails, components))
        except (LogUnavailable, psycopg2.Error, TimeoutError):
            self.close()
            return {}
        parts: dict[str, list[int]] = {}
        for number, worker in rows:
            parts.setdefault(worker, []).append(number - 1)
        return parts

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _store_once(self, group: list[Single]) -> list[Outcome]:
        connection = await self._connected()
        try:
            if not connection.distributed and not any(single.key for single in group):
                return await self._store_at_once(connection, group)
            async with asyncio.timeout(_PATIENCE):
                outcomes = await _write(connection, group)
        except (TimeoutError, pg_errors.QueryCanceled) as exc:
            self.close()
            raise LogTimeout("PostgreSQL did not store the event in time; nothing was stored") from exc
        except psycopg2.Error as exc:
            if is_worker_lost(exc) and not connection.broken:
                await self._roll_back(connection)
                raise WorkerUnavailable(f"a worker of the log does not answer: {first_line(exc, _NO_ANSWER)}") from exc
            if connection.broken or isinstance(exc, _UNFIT):
                self.close()
                raise LogUnavailable("the connection to PostgreSQL broke; nothing was stored") from exc
            if connection.in_transaction:
                await self._roll_back(connection)
            raise
        await self._commit(connection)
        return outcomes

    async def _store_at_once(self, connection: AsyncConnection, group: list[Single]) -> list[Outcome]:
        """Store events without keys by one statement, which is a transaction of its own: one round trip.

        PostgreSQL reports success only after the COMMIT. It reports an error, such as its own shutdown (57P01), only
        if nothing was stored. If the connection breaks without a report, nobody knows whether the events are stored.

        Raises:
            CommitUnknown: the connection broke, or PostgreSQL did not answer in time.
            psycopg2.Error: PostgreSQL refused something in the group; nothing was stored.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                outcomes = await insert(connection, [(_new_id(), single.new) for single in group])
        except TimeoutError as exc:
            self.close()
            raise CommitUnknown("PostgreSQL did not answer the COMMIT in time") from exc
        except psycopg2.Error as exc:
            if connection.broken and not isinstance(exc, pg_errors.AdminShutdown):
                self.close()
                raise CommitUnknown("the connection to PostgreSQL broke during the COMMIT") from exc
            raise
        check_confirmed(connection.notices)
        return list(outcomes)

    async def _roll_back(self, connection: AsyncConnection) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection.execute("ROLLBACK")
        except (psycopg2.Error, TimeoutError):
            self.close()

    async def _commit(self, connection: AsyncConnection) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection.execute("COMMIT")
        except TimeoutError as exc:
            self.close()
            raise CommitUnknown("PostgreSQL did not answer the COMMIT in time") from exc
        except psycopg2.Error as exc:
            broken = connection.broken
            self.close()
            raise commit_error(exc, broken=broken) from exc
        check_committed(connection.status, connection.notices)

    async def _connected(self) -> AsyncConnection:
        if self._connection is not None and self._connection.ended:
            self.close()
        if self._connection is None:
            if time.monotonic() < self._down_until:
                raise LogUnavailable("PostgreSQL cannot be reached; nothing was stored")
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> AsyncConnection:
        began = time.monotonic()
        try:
            connection = await AsyncConnection.open(
                self._dsn, application_name=_NAME, patience=_CONNECTING, statement_timeout=_STATEMENT_TIMEOUT
            )
            ((connection.distributed,),) = await connection.execute(f"SELECT {IS_DISTRIBUTED}")
            self._is_distributed = connection.distributed
            await connection.execute(PREPARE)
        except (psycopg2.Error, TimeoutError) as exc:
            # Requests that have waited as long as this attempt took must not wait for a second attempt.
            self._down_until = time.monotonic() + max(_RETRY_CONNECT, time.monotonic() - began)
            reason = first_line(exc, _NO_ANSWER)
            raise LogUnavailable(f"PostgreSQL cannot be reached: {reason}; nothing was stored") from exc
        return connection


_NO_ANSWER = "no answer in time"
# The server is there, but not in a state to store anything: on its way up or down, or a standby.
_UNFIT = (psycopg2.OperationalError, psycopg2.InterfaceError, pg_errors.ReadOnlySqlTransaction)


async def _write(connection: AsyncConnection, group: list[Single]) -> list[Outcome]:
    await connection.execute("BEGIN")
    if connection.distributed and any(single.key for single in group):
        await connection.execute(TWO_PHASES)
    known = await _look_up(connection, group)
    return await _write_missing(connection, group, known)


async def _look_up(connection: AsyncConnection, group: list[Single]) -> list[Outcome | None]:
    """Look up each event's key: the outcome is a replay or a refusal; None means that the event must be stored."""
    keys = list(dict.fromkeys(single.key.hash for single in group if single.key))
    held = idempotency.read_locks(await connection.execute(idempotency.LOCK, (list(map(lock_of, keys)),)))
    kept = idempotency.read_kept(await connection.execute(idempotency.FIND, (keys,)))
    repeated = [
        (one, single.new)
        for single in group
        if single.key and (one := kept.get(single.key.hash)) and one.fingerprint == single.key.fingerprint
    ]
    stored, prepared = await find_stored(connection, repeated)
    seen: set[bytes] = set()
    known: list[Outcome | None] = []
    for single in group:
        if single.key is None:
            known.append(None)
        elif single.key.hash in seen or lock_of(single.key.hash) not in held:
            known.append(KeyRunning(idempotency.STILL_RUNNING))
        else:
            seen.add(single.key.hash)
            known.append(_judge(single.key, kept.get(single.key.hash), stored, prepared=prepared))
    return known


def _judge(key: IdempotencyKey, kept: Kept | None, stored: dict[str, Event], *, prepared: bool) -> Outcome | None:
    if kept is None:
        return None
    if kept.fingerprint != key.fingerprint:
        return KeyReused(idempotency.OTHER_BODY)
    event = stored.get(first_id(kept.seed))
    if event is None and prepared:
        return KeyRunning(idempotency.STILL_COMMITTING)
    return Replay(event) if event else EventGone("the event was stored, and has been erased since")


async def _write_missing(
    connection: AsyncConnection, group: list[Single], known: list[Outcome | None]
) -> list[Outcome]:
    seeds = {index: idempotency.new_seed() for index, outcome in enumerate(known) if outcome is None}
    missing = [(first_id(seed), group[index].new) for index, seed in seeds.items()]
    events = dict(zip(seeds, await insert(connection, missing), strict=True)) if missing else {}
    kept = {
        key.hash: idempotency.Kept(key.fingerprint, seeds[index], 1, event.created_at)
        for index, event in events.items()
        if (key := group[index].key)
    }
    if kept:
        await connection.execute(idempotency.KEEP, (idempotency.write_kept(kept),))
    return [events[index] if outcome is None else outcome for index, outcome in enumerate(known)]


def _new_id() -> str:
    """Draw a UUID4; uuid.uuid4() takes three times as long."""
    raw = os.urandom(16)
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[raw[8] & 3]}{text[17:20]}-{text[20:]}"
