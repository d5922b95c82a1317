"""The keys as a worker process knows them: in memory, looked up again every two seconds.

So a request costs no statement, a key that was made or revoked counts within five seconds in every process, and keys
go on working while PostgreSQL is away: what was known stays known for an hour.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog

from eventsvc.access import store
from eventsvc.access.key import digest, is_whole
from eventsvc.access.rights import EVERYTHING, Grant
from eventsvc.errors import LogError, LogUnavailable, Unauthenticated
from eventsvc.log.connection import Pool

_log = structlog.get_logger(__name__)

REFRESH = 2.0  # seconds
MEMORY = 3600.0  # seconds that keys stay known while PostgreSQL is away
_MINUTE = 60
_MISTYPED = "this is no key: something in it was mistyped, or is missing"
_UNKNOWN = "this key is unknown, or was taken back, or has expired"


class Keys:
    """Finds what a key allows.

    Args:
        pool: to the log; used every two seconds, in a thread.
        open_without: let everybody in as long as no key was ever made.
    """

    def __init__(self, pool: Pool, *, open_without: bool, refresh: float = REFRESH) -> None:
        self._pool, self._open_without, self._refresh = pool, open_without, refresh
        self._grants: dict[bytes, Grant] = {}
        self._any: bool | None = None
        self._known_until = 0.0
        self._used: dict[str, int] = {}  # id → the minute of its last use, in seconds since 1970
        self._noted: dict[str, int] = {}
        self._under_way: dict[str, set[asyncio.Task[object]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look the keys up, and go on doing so; PostgreSQL may be away."""
        await self._look()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and keep the last uses."""
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
        """Give what the key allows, or what somebody without a key may do.

        Raises:
            Unauthenticated: a key is needed, or this is none.
            LogUnavailable: the keys have not been seen for too long.
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
        """Give what the key of this id allows, if it is good."""
        if time.monotonic() > self._known_until:
            raise LogUnavailable("keys cannot be looked up while PostgreSQL is away")
        return next((grant for grant in self._grants.values() if grant.id == identity), None)

    def begin(self, grant: Grant, task: asyncio.Task[object]) -> None:
        """Note an answer under way, to be broken off when its key is taken back."""
        self._under_way.setdefault(grant.id, set()).add(task)

    def end(self, grant: Grant, task: asyncio.Task[object]) -> None:
        """Forget an answer that has ended."""
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
            _log.warning("the keys are not looked up", reason=str(exc))
            return
        except Exception:  # noqa: BLE001  (a schema that is not there yet; whatever it is, it must not end the task)
            _log.exception("the keys could not be looked up")
            return
        self._any, self._grants = any_key, grants
        self._known_until = time.monotonic() + MEMORY
        self._break_off()

    def _break_off(self) -> None:
        """End the answers of keys that are gone."""
        good = {grant.id for grant in self._grants.values()} | ({""} if not self._any else set())
        for identity in set(self._under_way) - good:
            for task in self._under_way.pop(identity):
                task.cancel()

    async def _note_use(self) -> None:
        news = {name: minute for name, minute in self._used.items() if self._noted.get(name) != minute}
        if news:
            await self._pool.run(lambda connection: store.note_use(connection, news))
            self._noted |= news
