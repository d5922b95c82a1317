"""The live tail: one reader of the log per worker, however many listen.

The reader goes up to the horizon, in seq order, so that nothing is skipped and nothing comes twice. Each event is
tested once per distinct query and rendered once; its listeners share the bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from eventsvc.errors import LogError
from eventsvc.event import Event
from eventsvc.log.read.follower import MOST, Follower
from eventsvc.query.to_predicate import Candidate, Predicate

_log = structlog.get_logger(__name__)

POLL = 0.06  # seconds between looks at the horizon, while anybody listens
CAPACITY = 1024 * 1024  # bytes that may wait for one listener
_RETRY = 1.0  # seconds until PostgreSQL is asked again after it was away


@dataclass(frozen=True, slots=True)
class Topic:
    """What a listener wants to hear; equal texts share the work.

    Attributes:
        text: the query, canonical, with relative times resolved.
        matches: its predicate.
    """

    text: str
    matches: Predicate


class Listener:
    """What waits for one listener.

    Attributes:
        position: everything up to this seq has been taken.
        lost: more was waiting than is kept for one listener; nothing more will come.
        on_lost: called when that happens.
    """

    def __init__(self, topic: Topic, position: int, capacity: int) -> None:
        self.topic, self.position, self.lost = topic, position, False
        self.on_lost: Callable[[], object] = bool
        self._capacity, self._size = capacity, 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()

    def offer(self, chunk: bytes, reached: int) -> None:
        """Let a chunk wait; or, if too much waits already, drop all that does."""
        if self.lost:
            return
        if self._size and self._size + len(chunk) > self._capacity:
            self.lost = True
            self._waiting.clear()
            self.on_lost()
        elif chunk:
            self._waiting.append((reached, chunk))
            self._size += len(chunk)
        elif self._waiting:
            self._waiting[-1] = (reached, self._waiting[-1][1])
            return
        else:
            self.position = reached
            return
        self._news.set()

    async def take(self, patience: float) -> bytes:
        """Give what waits; b"" when there is nothing, or nothing came within so many seconds."""
        if not self._waiting and not self.lost:
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return b""
        if not self._waiting:
            return b""
        self.position, chunk = self._waiting.popleft()
        self._size -= len(chunk)
        return chunk

    def wake(self) -> None:
        """Let ``take`` return."""
        self._news.set()


class Live:
    """Follows the log while anybody is interested.

    Attributes:
        position: the seq up to which the log has been followed.
        closing: the service stops.
    """

    def __init__(
        self, dsn: str, render: Callable[[Event], bytes], *, poll: float = POLL, capacity: int = CAPACITY
    ) -> None:
        self._dsn, self._render, self._poll, self._capacity = dsn, render, poll, capacity
        self._groups: dict[str, set[Listener]] = {}
        self._interested = 0
        self._follow: asyncio.Task[None] | None = None
        self._started: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self.position = 0
        self.closing = False

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(map(len, self._groups.values()))

    async def follow(self) -> None:
        """Follow the log until ``unfollow``.

        Raises:
            LogUnavailable: PostgreSQL is away, and nobody was following before.
        """
        self._interested += 1
        try:
            await self._start()
        except BaseException:
            await self.unfollow()
            raise

    async def unfollow(self) -> None:
        """Take back one ``follow``; the last one ends it."""
        self._interested -= 1
        if not self._interested:
            await self._stop()

    async def reach(self, seq: int) -> None:
        """Wait until the log has been followed up to a seq."""
        while self.position < seq and not self.closing:
            self._moved.clear()
            await self._moved.wait()

    def listen(self, topic: Topic, position: int) -> Listener | None:
        """Hear of what comes after this position until ``leave``; None if that has been passed already."""
        if position != self.position:
            return None
        listener = Listener(topic, position, self._capacity)
        self._groups.setdefault(topic.text, set()).add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Hear no more."""
        group = self._groups.get(listener.topic.text, set())
        group.discard(listener)
        if not group:
            self._groups.pop(listener.topic.text, None)

    def end(self) -> None:
        """Tell every listener that the service stops."""
        self.closing = True
        self._moved.set()
        for group in self._groups.values():
            for listener in group:
                listener.wake()

    async def close(self) -> None:
        """Stop following."""
        self.end()
        await self._stop()

    async def _start(self) -> None:
        if self._started is None:
            self._started = asyncio.create_task(self._begin())
        started = self._started
        try:
            # Others may wait for the same start: one of them going away must not end it.
            await asyncio.shield(started)
        except LogError:
            if self._started is started:
                self._started = None
            raise

    async def _begin(self) -> None:
        follower = Follower(self._dsn)
        try:
            self.position = await follower.find_end()
        except BaseException:
            await follower.close()
            raise
        self._follow = asyncio.create_task(self._follow_log(follower))

    async def _stop(self) -> None:
        tasks = [task for task in (self._started, self._follow) if task is not None]
        self._started = self._follow = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_log(self, follower: Follower) -> None:
        try:
            while True:
                pause = await self._step(follower)
                await asyncio.sleep(pause)
        finally:
            await follower.close()

    async def _step(self, follower: Follower) -> float:
        """Read and hand out once; give the seconds until the next time."""
        try:
            batch = await follower.read(self.position)
        except LogError as exc:
            _log.warning("the live tail waits for PostgreSQL", reason=str(exc))
            return _RETRY
        if batch.reached > self.position:
            self._hand_out(batch.events, batch.reached)
        return 0.0 if len(batch.events) == MOST else self._poll

    def _hand_out(self, events: Iterable[Event], reached: int) -> None:
        rendered: dict[int, bytes] = {}
        for group in self._groups.values():
            chunk = self._chunk(events, next(iter(group)).topic, rendered)
            for listener in group:
                listener.offer(chunk, reached)
        self.position = reached
        self._moved.set()

    def _chunk(self, events: Iterable[Event], topic: Topic, rendered: dict[int, bytes]) -> bytes:
        parts = []
        for event in events:
            if topic.matches(Candidate(event)):
                if event.seq not in rendered:
                    rendered[event.seq] = self._render(event)
                parts.append(rendered[event.seq])
        return b"".join(parts)
