"""The work of one caller on a connection of a pool, which can be cancelled, or cut off from a server that hangs."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

import psycopg2

from eventsvc.errors import LogError

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection

T = TypeVar("T")

_AGAIN = 1.0  # seconds


class Job(Generic[T]):
    """The work of one caller.

    While ``cancel`` sends the cancellation to the server, it holds a lock. So the work cannot end in between, and the
    pool cannot lend the connection to another caller.

    Attributes:
        is_cut: whether the connection was cut because the server did not answer.
    """

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._cancelled = False
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_cut = False

    def do(self, connection: Connection) -> T:
        """Work, in a thread of the pool.

        Raises:
            LogError: the caller has cancelled already.
        """
        with self._lock:
            if self._cancelled:
                raise LogError("nobody waits for this any more")
            self._connection, self._began = connection, time.monotonic()
        try:
            return self._work(connection)
        finally:
            with self._lock:
                self._connection = None

    def cancel(self) -> None:
        """Tell the server to cancel the statement; waits for the server."""
        with self._lock:
            self._cancelled = True
            if self._connection is not None:
                with suppress(psycopg2.Error):
                    self._connection.cancel()

    def watch(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        """Cut the connection once the work has taken so many seconds, so that its thread is free again."""
        left = limit if self._began is None else self._began + limit - time.monotonic()
        if left <= 0 and not self._cut():
            left = _AGAIN
        if left > 0:
            self._timer = loop.call_later(left, self.watch, loop, limit)

    def stop_watching(self) -> None:
        """Do not cut the connection, unless work goes on that the caller has cancelled."""
        if self._timer is not None and self._connection is None:
            self._timer.cancel()

    def _cut(self) -> bool:
        """Cut the connection if the work still goes on; False while the server is being told to cancel."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._connection is not None and not self._connection.closed:
                self.is_cut = True
                with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
                    ours.shutdown(socket.SHUT_RDWR)
        finally:
            self._lock.release()
        return True
