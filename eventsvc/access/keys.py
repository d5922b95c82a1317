"""The keys in the memory of a worker process, which reads them from PostgreSQL every two seconds.

So a request needs no SQL statement, and a new or revoked key takes effect within five seconds in every process. While
PostgreSQL is away, known keys work for another hour.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog

from eventsvc.access import store
from eventsvc.access.key_text import digest, is_whole
from eventsvc.access.rights import EVERYTHING, Grant
from eventsvc.errors import LogError, LogUnavailable, Unauthenticated
from eventsvc.log.connection import Pool

_logger = structlog.get_logger(__name__)

_REFRESH = 2.0  # seconds
_MEMORY = 3600.0  # seconds that keys stay known while PostgreSQL is away
_MINUTE = 60
_MISTYPED = "this is no key: something in it was mistyped, or is missing"
_UNKNOWN = "this key is unknown, or was taken back, or has expired"


class Keys:
    """Finds the grant of a key.

    Args:
        pool: connections to the log.
        open_without: let everybody in as long as no key was ever made.
    """

    def __init__(self, pool: Pool, *, open_without: bool, refresh: float = _REFRESH) -> None:
        self._pool, self._open_without, self._refresh = pool, open_without, refresh
        self._grants: dict[bytes, Grant] = {}
        self._any: bool | None = None
        self._known_until = 0.0
        self._used: dict[str, int] = {}  # id → the minute of its last use, in seconds since 1970
        self._noted: dict[str, int] = {}
        self._under_way: dict[str, set[asyncio.Task[object]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys now and every two seconds from now on. PostgreSQL may be away."""
        await self._look()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and store when keys were last used."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with suppress(LogError):
                await self._note_use()

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return self._any is False and self._open_without

    def find(self, text: str | None) -> Grant:
        """Find the grant of a key, or the grant of a client without a key.

        Raises:
            Unauthenticated: the client needs a key, or the text is not a valid key.
            LogUnavailable: the keys were last read more than an hour ago.
        """
        now = time.monotonic()
        if now > self._known_until:
            raise LogUnavailable("keys cannot be looked up while PostgreSQL is away")
        if self.is_open:
            return EVERYTHING
        if text is None:
            raise Unauthenticated("this needs a key: send it as `Authorization: Bearer ev_…`")
        grant = self._grants.get(digest(text))
        if grant is None:
            raise Unauthenticated(_UNKNOWN if is_whole(text) else _MISTYPED)
        minute = int(time.time()) // _MINUTE * _MINUTE
        if self._used.get(grant.id) != minute:
            self._used[grant.id] = minute
        return grant

    def find_by_id(self, identity: str) -> Grant | None:
        """Find the grant of the key with this id; None if the key is not valid.

        Raises:
            LogUnavailable: the keys were last read more than an hour ago.
        """
        if time.monotonic() > self._known_until:
            raise LogUnavailable("keys cannot be looked up while PostgreSQL is away")
        return next((grant for grant in self._grants.values() if grant.id == identity), None)

    def begin(self, grant: Grant, task: asyncio.Task[object]) -> None:
        """Register an answer under way, which is cancelled if its key is revoked."""
        self._under_way.setdefault(grant.id, set()).add(task)

    def end(self, grant: Grant, task: asyncio.Task[object]) -> None:
        """Unregister an answer that has ended."""
        tasks = self._under_way.get(grant.id, set())
        tasks.discard(task)
        if not tasks:
            self._under_way.pop(grant.id, None)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._refresh)
            await self._look()

    async def _look(self) -> None:
        try:
            any_key, grants = await self._pool.run(store.load_grants)
            await self._note_use()
        except LogError as exc:
            _logger.warning("the keys are not looked up", reason=str(exc))
            return
        except Exception:
            _logger.exception("the keys could not be looked up")
            return
        self._any, self._grants = any_key, grants
        self._known_until = time.monotonic() + _MEMORY
        self._break_off()

    def _break_off(self) -> None:
        """Cancel the answers of keys that are no longer valid."""
        good = {grant.id for grant in self._grants.values()} | ({""} if not self._any else set())
        for identity in set(self._under_way) - good:
            for task in self._under_way.pop(identity):
                task.cancel()

    async def _note_use(self) -> None:
        news = {name: minute for name, minute in self._used.items() if self._noted.get(name) != minute}
        if news:
            await self._pool.run(lambda connection: store.note_use(connection, news))
            self._noted |= news
