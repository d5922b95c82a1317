"""The live tail: each worker process reads the log once, however many clients listen.

The reader goes up to the horizon, in seq order, so that no event is skipped and none comes twice. It hands the events
to the listeners (listeners.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog

from eventsvc.errors import EventsvcError, LogError
from eventsvc.event import Event
from eventsvc.log.read.follower import MOST, MOST_CHARACTERS, Follower
from eventsvc.search.listeners import CAPACITY, Listener, Listeners, Topic

_logger = structlog.get_logger(__name__)

_POLL = 0.06  # seconds between reads of the horizon, while anybody listens
_RETRY = 1.0  # seconds until the next try when PostgreSQL is away
_PORTION = 64 * 1024  # characters that are tested and handed out at a time

BROKEN = "the live tail broke off; the cause is in the service's log"


class Live:
    """Follows the log while at least one client listens.

    Attributes:
        reached: the seq up to which the log has been followed. It becomes lower if a failover has lost events.
        closing: whether the service is stopping.
    """

    def __init__(
        self, dsn: str, render: Callable[[Event], bytes], *, poll: float = _POLL, capacity: int = CAPACITY
    ) -> None:
        self._dsn, self._poll = dsn, poll
        self._listeners = Listeners(render, capacity)
        self._interested = 0
        self._follow: asyncio.Task[None] | None = None
        self._started: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        # When following begins, a transaction that has drawn a lower seq may still be under way.
        self._settled = False
        self.reached = 0
        self.closing = False

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return sum(1 for _ in self._listeners)

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
        """Wait until ``reached`` is at least ``seq`` and no event up to ``reached`` is still under way.

        Returns:
            False if the time ran out.

        Raises:
            EventsvcError: the reader has failed.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while (self.reached < seq or not self._settled) and not self.closing:
                    if self._started is None:
                        raise EventsvcError(BROKEN)
                    self._moved.clear()
                    await self._moved.wait()
        return self._settled and self.reached >= seq

    def listen(self, topic: Topic, seq: int) -> Listener | None:
        """Queue everything after a seq for a new listener; None if the reader is not at this seq."""
        return self._listeners.add(topic, seq) if seq == self.reached else None

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.remove(listener)

    def end(self) -> None:
        """Wake every listener, because the service stops."""
        self.closing = True
        self._moved.set()
        for listener in self._listeners:
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
            self.reached, self._settled = await follower.find_end(), False
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
        except Exception:
            _logger.exception("the live tail broke off")
            self._break_off()
        finally:
            await follower.close()

    def _break_off(self) -> None:
        """End every stream with a reason, rather than send heartbeats only. A client that reconnects starts anew."""
        self._started = self._follow = None
        self._listeners.lose_all(BROKEN)
        self._moved.set()

    async def _step(self, follower: Follower) -> float:
        """Read one batch and hand it out; give the seconds until the next step."""
        try:
            batch = await follower.read()
        except LogError as exc:
            _logger.warning("the live tail waits for PostgreSQL", reason=str(exc))
            return _RETRY
        if batch is None:
            return self._poll
        for events, reached in _portions(batch.events, batch.reached):
            await self._listeners.hand_out(events, reached, follower.work)
            # No other task has run since the events were queued: nobody begins to listen at the seq before them.
            self.reached, self._settled = reached, True
            self._moved.set()
            await self._listeners.wait_for_room()
        full = len(batch.events) >= MOST or batch.size >= MOST_CHARACTERS
        return 0.0 if full else self._poll


def _portions(events: Sequence[Event], reached: int) -> Iterator[tuple[Sequence[Event], int]]:
    """Cut a batch into small portions, each with the seq up to which it is complete."""
    start = size = 0
    for place, event in enumerate(events):
        size += len(event.message) + len(event.data)
        if size >= _PORTION and place + 1 < len(events):
            yield events[start : place + 1], event.seq
            start, size = place + 1, 0
    yield events[start:], reached
