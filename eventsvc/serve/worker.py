"""gunicorn's arbiter and ASGI worker, made to stop without a failed request.

A listening socket that is closed resets the connections that nobody has accepted yet, and their requests fail although
the balancer could have sent them elsewhere. So new connections are turned away first, at the door of the kernel; those
that are inside are accepted and served; only then is the socket closed.

All workers share the listening sockets, so it is the arbiter that turns connections away, and only when all of the
service stops: a worker that ends alone leaves its part to the others.

Connections on which nobody asks anything are closed: after ``keepalive`` seconds (gunicorn 26 cancels its own timer as
soon as it is set), and soon when the worker stops (gunicorn waits for them as long as for requests).
"""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter as _Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

# A handshake under way ends within a round trip or two.
_SETTLE = 0.2  # seconds
_BETWEEN_LOOKS = 0.01  # seconds
# Who sends one request after the other is told with the next answer that the connection ends.
_LAST_CALL = 1.0  # seconds

# Packets that have less hops left than this are dropped (ip(7), for RFC 5082). Nobody starts with as many as 255 but
# some routers: nothing gets through any more, except what the kernel knows as the end of a handshake.
_IP_MINTTL = 21  # linux/in.h; Python has no name for them
_IPV6_MINHOPCOUNT = 73
_FAMILIES = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MINTTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT),
}


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection reach ``listener``; what has reached it can still be accepted.

    Whoever tries is neither let in nor refused; he asks again after a second, when the socket is closed, and is
    refused then, which tells a balancer to ask the next process. Tell whether the system can do this.
    """
    return _set_hops(listener, 255)


def is_turned_away(sock: socket.socket) -> bool:
    """Tell whether a listener turns others away, or a connection inherited that from one that does."""
    return sys.platform == "linux" and sock.family in _FAMILIES and sock.getsockopt(*_FAMILIES[sock.family]) != 0


def let_in(connection: socket.socket) -> None:
    """Take back what a connection inherited from a listener that turns others away."""
    _set_hops(connection, 0)


def _set_hops(sock: socket.socket, least: int) -> bool:
    if sys.platform != "linux" or sock.family not in _FAMILIES:
        return False
    try:
        sock.setsockopt(*_FAMILIES[sock.family], least)
    except OSError:  # a sandbox may forbid it: then as gunicorn does it by itself
        return False
    return True


def _is_waiting(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


class Arbiter(_Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Turns new connections away before it tells the workers to stop."""

    _stopping = False

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  (the base class's signature)
        """Stop all workers."""
        if graceful and any([turn_away(listener.sock) for listener in self.LISTENERS]):  # noqa: C419  (all of them)
            time.sleep(_SETTLE)
        self._stopping = graceful
        super().stop(graceful)

    def reap_workers(self) -> None:
        """Take note of the workers that have ended; called ten times a second while all of them should."""
        if self._stopping:
            # A worker that was only just forked does not hear the first signal.
            self.kill_workers(signal.SIGTERM)
        super().reap_workers()


class _Protocol(ASGIProtocol):  # type: ignore[misc]
    def connection_made(self, transport: Any) -> None:
        connection = transport.get_extra_info("socket")
        if is_turned_away(connection):
            let_in(connection)
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._heard = self.worker.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = self.worker.loop.time()
        super().data_received(data)

    def _arm_keepalive_timer(self) -> None:  # called when a request has been answered
        self._heard = self.worker.loop.time()

    def _send_response_start(self, status: int, headers: Any, request: Any) -> None:
        if self.worker.leaving is not None:
            headers = [*headers, (b"connection", b"close")]
        super()._send_response_start(status, headers, request)

    def is_silent(self, seconds: float) -> bool:
        """Tell whether the client has neither said nor awaited anything for so long."""
        return self._current_request is None and self.worker.loop.time() - self._heard >= seconds


# gunicorn has no setting for it.
gasgi.ASGIProtocol = _Protocol


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Accepts the connections that are waiting before it stops listening, when nobody else will."""

    leaving: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[_Protocol] = set()

    def notify(self) -> None:
        """Tell the arbiter, once a second, that we live."""
        super().notify()
        self._close_silent(self.cfg.keepalive)

    def handle_exit_signal(self) -> None:
        """Stop gracefully (SIGTERM)."""
        if self.leaving is None:
            getattr(self.asgi, "leave", bool)()  # live streams would keep us waiting until the time is up
            self.leaving = self.loop.create_task(self._leave())

    async def _leave(self) -> None:
        listeners = [listener.sock for listener in self.sockets if is_turned_away(listener.sock)]
        while any(map(_is_waiting, listeners)):  # noqa: ASYNC110  (the kernel tells nobody when the queue is empty)
            await asyncio.sleep(_BETWEEN_LOOKS)
        super().handle_exit_signal()
        while True:  # until the loop ends
            self._close_silent(_LAST_CALL)
            await asyncio.sleep(_LAST_CALL / 10)

    def _close_silent(self, seconds: float) -> None:
        for connection in list(self.connections):
            if connection.is_silent(seconds):
                connection.transport.close()
