"""The bounds that all connections of a worker process share."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventsvc.settings import Settings

if TYPE_CHECKING:
    from eventsvc.serve.http_connection import HttpConnection

_SPARE_DESCRIPTORS = 128  # for PostgreSQL, Elasticsearch, temporary files and the listening sockets
_PAUSE = 1.0  # seconds: a client that pauses for longer may lose its place


@dataclass(slots=True)
class Bounds:
    """The bounds that all connections of a worker share, and whether the worker is about to stop.

    Attributes:
        connections: how many connections there may be at a time.
        head_seconds: how many seconds the head of a request may take.
        body_seconds: how many seconds a body may take, and one second more for each ``body_rate`` bytes.
        body_rate: bytes a second.
        answer_seconds: how many seconds a client may take nothing of its answer.
        unread_bytes: how many bytes of answers may wait for their clients.
        closing: whether each answer is the last of its connection.
    """

    connections: int
    head_seconds: float
    body_seconds: float
    body_rate: int
    answer_seconds: float
    unread_bytes: int
    closing: bool = False
    _none_before: float = 0.0  # until this time no client will have paused for long enough

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Make the bounds from the settings, but leave enough file descriptors for everything else."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(settings.connections, max(descriptors - _SPARE_DESCRIPTORS, 16))
        answers = settings.answer_seconds, settings.unread_bytes
        return cls(most, settings.head_seconds, settings.body_seconds, settings.body_rate, *answers)

    def make_place(self, connections: Iterable[HttpConnection]) -> bool:
        """Close the connection whose client has paused longest (see ``HttpConnection.pause``), for a new connection.

        Returns:
            Whether a client has paused for long enough.
        """
        now = time.monotonic()
        if now < self._none_before:
            return False
        longest = max(connections, key=lambda one: one.pause)
        if longest.pause < _PAUSE:
            self._none_before = now + _PAUSE / 10  # PERF: a flood of connections does not cause a flood of looks
            return False
        longest.give_place()
        return True

    def make_room(self, connections: Iterable[HttpConnection]) -> None:
        """If too many bytes wait for clients, cut off connections: first the one that has taken nothing for longest."""
        waiting = [connection for connection in connections if connection.unread]
        excess = sum(connection.unread for connection in waiting) - self.unread_bytes
        for connection in sorted(waiting, key=lambda one: one.stalled, reverse=True):
            if excess <= 0:
                return
            excess -= connection.unread
            connection.cut_off()
