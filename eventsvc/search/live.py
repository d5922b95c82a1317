"""The live tail: each worker process reads the log once, however many clients listen.

The reader goes up to the horizon, in seq order, so that no event is skipped and none comes twice. The reader's thread
tests and writes the events, never the event loop. Each event is unpacked once, tested once per distinct query and
written once; all listeners share the bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from eventsvc.errors import EventsvcError, LogError
from eventsvc.event import Event
from eventsvc.log.read.follower import MOST, MOST_CHARACTERS, Follower
from eventsvc.query.to_predicate import Candidate, Predicate

_log = structlog.get_logger(__name__)

POLL = 0.06  # seconds between reads of the horizon, while anybody listens
_CAPACITY = 1024 * 1024  # bytes that may wait for one listener
_RETRY = 1.0  # seconds until the next try when PostgreSQL is away
_PORTION = 64 * 1024  # characters that are tested and handed out at a time
_PATIENCE = 0.1  # seconds that a full listener may delay the next portion

# Processor time for testing events. All queries together get this share of one processor, each query an equal part.
# A query may save up unused time. The stream of a query that needs more is ended.
_SHARE, _SAVED = 0.5, 1.0  # of a second, seconds

TOO_SLOW = "events came faster than they were taken; come back with the Last-Event-ID"
TOO_MUCH_WORK = "testing each event against this query takes too long: ask for less, or turn pages of GET /event"
BROKEN = "the live tail broke off; the cause is in the service's log"


@dataclass(frozen=True, slots=True)
class Topic:
    """The query of a listener. Listeners with equal texts share the work.

    Attributes:
        text: the canonical query, with relative times resolved.
        matches: the predicate of the query.
    """

    text: str
    matches: Predicate


class Listener:
    """The queue of chunks for one client.

    Attributes:
        position: the client has taken everything up to this seq.
        lost: why no more chunks will come; "" while the listener is alive.
        on_lost: called when the listener is lost.
    """

    def __init__(self, topic: Topic, position: int, capacity: int, on_take: Callable[[], object] = bool) -> None:
        self.topic, self.position, self.lost = topic, position, ""
        self.on_lost: Callable[[], object] = bool
        self._capacity, self._size, self._on_take = capacity, 0, on_take
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()

    @property
    def pressed(self) -> bool:
        """Whether the queue is so full that the next chunk may not fit."""
        return self._size > self._capacity // 2 and not self.lost

    def offer(self, chunk: bytes, reached: int) -> None:
        """Queue a chunk that holds all matching events up to ``reached``. A listener whose queue is full is lost."""
        if self.lost:
            return
        if self._size + len(chunk) > self._capacity:
            self.lose(TOO_SLOW)
        elif chunk:
            self._waiting.append((reached, chunk))
            self._size += len(chunk)
            self._news.set()
        elif self._waiting:
            self._waiting[-1] = (reached, self._waiting[-1][1])
        else:
            self.position = reached

    def lose(self, reason: str) -> None:
        """Empty the queue and give the reason why no more chunks will come."""
        if not self.lost:
            self.lost, self._size = reason, 0
            self._waiting.clear()
            self.on_lost()
            self._news.set()

    async def take(self, patience: float) -> bytes:
        """Give the next chunk, waiting up to ``patience`` seconds; b"" if there is none."""
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
        self._on_take()
        return chunk

    def wake(self) -> None:
        """Make a waiting ``take`` return."""
        self._news.set()


class _Group:
    """The listeners of one topic, and the processor time that the topic's query may still use."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.listeners: set[Listener] = set()
        self._left, self._since = _SAVED, time.monotonic()

    def spend(self, seconds: float, share: float) -> bool:
        """Charge processor time, of which the query earns ``share`` each second; tell whether there was enough."""
        now = time.monotonic()
        self._left = min(_SAVED, self._left + (now - self._since) * share) - seconds
        self._since = now
        return self._left >= 0


class Live:
    """Follows the log while at least one client listens.

    Attributes:
        position: the seq up to which the log has been followed.
        closing: whether the service is stopping.
    """

    def __init__(
        self, dsn: str, render: Callable[[Event], bytes], *, poll: float = POLL, capacity: int = _CAPACITY
    ) -> None:
        self._dsn, self._render, self._poll, self._capacity = dsn, render, poll, capacity
        self._groups: dict[str, _Group] = {}
        self._interested = 0
        self._follow: asyncio.Task[None] | None = None
        self._started: asyncio.Task[None] | None = None
        self._moved, self._taken = asyncio.Event(), asyncio.Event()
        # When following begins, a transaction that has drawn a lower seq may still be under way.
        self._settled = False
        self.position = 0
        self.closing = False

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return sum(len(group.listeners) for group in self._groups.values())

    async def follow(self) -> None:
        """Follow the log until ``unfollow`` is called.

        Raises:
            LogUnavailable: PostgreSQL is away, and the log was not followed before.
        """
        self._interested += 1
        try:
            await self._start()
        except BaseException:
            await self.unfollow()
            raise

    async def unfollow(self) -> None:
        """Undo one ``follow``. The last ``unfollow`` stops the reader."""
        self._interested -= 1
        if not self._interested:
            await self._stop()

    async def reach(self, seq: int, patience: float) -> bool:
        """Wait until ``position`` is at least ``seq`` and no event up to ``position`` is still under way.

        Returns:
            False if the time ran out.

        Raises:
            EventsvcError: the reader has failed.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while (self.position < seq or not self._settled) and not self.closing:
                    if self._started is None:
                        raise EventsvcError(BROKEN)
                    self._moved.clear()
                    await self._moved.wait()
        return self._settled and self.position >= seq

    def listen(self, topic: Topic, position: int) -> Listener | None:
        """Queue everything after a position for a new listener; None if the reader is not at this position."""
        if position != self.position:
            return None
        listener = Listener(topic, position, self._capacity, self._taken.set)
        self._groups.setdefault(topic.text, _Group(topic)).listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        group = self._groups.get(listener.topic.text)
        if group is not None:
            group.listeners.discard(listener)
            if not group.listeners:
                del self._groups[listener.topic.text]

    def end(self) -> None:
        """Wake every listener, because the service stops."""
        self.closing = True
        self._moved.set()
        for group in self._groups.values():
            for listener in group.listeners:
                listener.wake()

    async def close(self) -> None:
        """Stop the reader."""
        self.end()
        await self._stop()

    async def _start(self) -> None:
        if self._started is None:
            self._started = asyncio.create_task(self._begin())
        started = self._started
        try:
            # Several clients may wait for the same start: a client that goes away must not cancel it for the others.
            await asyncio.shield(started)
        except LogError:
            if self._started is started:
                self._started = None
            raise

    async def _begin(self) -> None:
        follower = Follower(self._dsn)
        try:
            self.position, self._settled = await follower.find_end(), False
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
        except Exception:  # noqa: BLE001  (logged, and said to every client)
            _log.exception("the live tail broke off")
            self._break_off()
        finally:
            await follower.close()

    def _break_off(self) -> None:
        """End every stream with a reason, rather than send heartbeats only. A client that reconnects starts anew."""
        self._started = self._follow = None
        groups, self._groups = self._groups, {}
        for group in groups.values():
            for listener in group.listeners:
                listener.lose(BROKEN)
        self._moved.set()

    async def _step(self, follower: Follower) -> float:
        """Read one batch and hand it out; give the seconds until the next step."""
        try:
            batch = await follower.read(self.position)
        except LogError as exc:
            _log.warning("the live tail waits for PostgreSQL", reason=str(exc))
            return _RETRY
        if batch.reached < self.position:
            return self._poll
        for events, reached in _portions(batch.events, batch.reached):
            self._hand_out(await self._sort_out(follower, events), reached)
            await self._wait_for_listeners()
        full = len(batch.events) >= MOST or batch.size >= MOST_CHARACTERS
        return 0.0 if full else self._poll

    async def _sort_out(self, follower: Follower, events: Sequence[Event]) -> dict[str, bytes | None]:
        """Write the matching events of each topic; None for a topic whose query takes too much time."""
        chunks: dict[str, bytes | None] = {}
        # Topics may join while the thread works.
        while events and (missing := [group for text, group in self._groups.items() if text not in chunks]):
            share = _SHARE / len(self._groups)
            chunks |= await follower.work(partial(_test, events, missing, share, self._render))
        return chunks

    def _hand_out(self, chunks: dict[str, bytes | None], reached: int) -> None:
        for text, group in self._groups.items():
            chunk = chunks.get(text, b"")
            for listener in group.listeners:
                if chunk is None:
                    listener.lose(TOO_MUCH_WORK)
                else:
                    listener.offer(chunk, reached)
        self.position, self._settled = reached, True
        self._moved.set()

    async def _wait_for_listeners(self) -> None:
        """Give clients that read time to catch up, so that a burst of events loses only clients that do not read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while any(listener.pressed for group in self._groups.values() for listener in group.listeners):
                    self._taken.clear()
                    await self._taken.wait()


def _portions(events: Sequence[Event], reached: int) -> Iterator[tuple[Sequence[Event], int]]:
    """Cut a batch into small portions, each with the seq up to which it is complete."""
    start = size = 0
    for place, event in enumerate(events):
        size += len(event.message) + len(event.data)
        if size >= _PORTION and place + 1 < len(events):
            yield events[start : place + 1], event.seq
            start, size = place + 1, 0
    yield events[start:], reached


def _test(
    events: Iterable[Event], groups: Sequence[_Group], share: float, render: Callable[[Event], bytes]
) -> dict[str, bytes | None]:
    parts: dict[str, list[bytes] | None] = {group.topic.text: [] for group in groups}
    for event in events:
        candidate, rendered = Candidate(event), b""
        for group in groups:
            began = time.thread_time()
            found = parts[group.topic.text]
            if found is not None and group.topic.matches(candidate):
                rendered = rendered or render(event)
                found.append(rendered)
            if not group.spend(time.thread_time() - began, share):
                parts[group.topic.text] = None
    return {text: None if found is None else b"".join(found) for text, found in parts.items()}
