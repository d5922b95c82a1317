"""The listeners of the live stream in one worker process: test each new event, and queue it for its listeners.

Each event is unpacked once, tested once for each distinct query and written once, however many clients listen. All
listeners of a query share the bytes. A listener that does not read loses its stream, and so does a query whose tests
take too much processor time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from eventsvc.event import Event
from eventsvc.query.to_predicate import Candidate, Predicate

CAPACITY = 1024 * 1024  # bytes that may wait for one listener
_PATIENCE = 0.1  # seconds that a full listener may delay the next events

# Processor time for testing events. All queries together get this share of one processor, each query an equal part.
# A query may save up unused time. The stream of a query that needs more is ended.
_SHARE = 0.5  # seconds of processor time in each second
_SAVED = 1.0  # seconds of processor time that a query saves up at most

TOO_SLOW = "events came faster than they were taken; come back with the Last-Event-ID"
TOO_MUCH_WORK = "testing each event against this query takes too long: ask for less, or turn pages of GET /event"

_Chunks = dict[str, bytes | None]  # the matching events of each topic, written; None if the query takes too much time
Work = Callable[[Callable[[], _Chunks]], Awaitable[_Chunks]]


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
        reached: the client has taken everything up to this seq.
        lost: why no more chunks will come; "" while the listener is alive.
        on_lost: called when the listener is lost.
    """

    def __init__(self, topic: Topic, seq: int, capacity: int, on_take: Callable[[], object] = bool) -> None:
        self.topic, self.reached, self.lost = topic, seq, ""
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
            self.reached = reached

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
        self.reached, chunk = self._waiting.popleft()
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


class Listeners:
    """The listeners of this process, by topic."""

    def __init__(self, render: Callable[[Event], bytes], capacity: int = CAPACITY) -> None:
        self._render, self._capacity = render, capacity
        self._groups: dict[str, _Group] = {}
        self._taken = asyncio.Event()

    def __iter__(self) -> Iterator[Listener]:
        return (listener for group in self._groups.values() for listener in group.listeners)

    def add(self, topic: Topic, seq: int) -> Listener:
        """Add a listener that has everything up to a seq."""
        listener = Listener(topic, seq, self._capacity, self._taken.set)
        self._groups.setdefault(topic.text, _Group(topic)).listeners.add(listener)
        return listener

    def remove(self, listener: Listener) -> None:
        """Remove a listener, unless ``lose_all`` has removed it."""
        group = self._groups.get(listener.topic.text)
        if group is not None:
            group.listeners.discard(listener)
            if not group.listeners:
                del self._groups[listener.topic.text]

    def lose_all(self, reason: str) -> None:
        """Remove all listeners, and give each of them the reason."""
        groups, self._groups = self._groups, {}
        for group in groups.values():
            for listener in group.listeners:
                listener.lose(reason)

    async def hand_out(self, events: Sequence[Event], reached: int, work: Work) -> None:
        """Queue the matching events for every listener.

        Args:
            events: the next events of the log.
            reached: the seq up to which these events are complete.
            work: runs a function in a thread, because testing events takes too long for the event loop.
        """
        chunks: _Chunks = {}
        # Topics may join while the thread works.
        while events and (missing := [group for text, group in self._groups.items() if text not in chunks]):
            share = _SHARE / len(self._groups)
            chunks |= await work(partial(_test, events, missing, share, self._render))
        for text, group in self._groups.items():
            chunk = chunks.get(text, b"")
            for listener in group.listeners:
                if chunk is None:
                    listener.lose(TOO_MUCH_WORK)
                else:
                    listener.offer(chunk, reached)

    async def wait_for_room(self) -> None:
        """Give clients that read time to catch up, so that a burst of events loses only clients that do not read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while any(listener.pressed for listener in self):
                    self._taken.clear()
                    await self._taken.wait()


def _test(events: Iterable[Event], groups: Sequence[_Group], share: float, render: Callable[[Event], bytes]) -> _Chunks:
    """Test and write events for some groups."""
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
