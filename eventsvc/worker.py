"""gunicorn's ASGI worker, made to stop without a failed request.

A listening socket that is closed resets the connections that nobody has accepted yet, and their requests fail although
the balancer could have sent them elsewhere. So new connections are turned away first, at the door of the kernel; those
that are inside are accepted and served; only then is the socket closed.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

# A handshake under way ends within a round trip or two.
_SETTLE = 0.2  # seconds
_BETWEEN_LOOKS = 0.01  # seconds

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


class _Protocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    def connection_made(self, transport: Any) -> None:
        if self.worker.leaving is not None:
            let_in(transport.get_extra_info("socket"))
        super().connection_made(transport)


# gunicorn has no setting for it.
gasgi.ASGIProtocol = _Protocol


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Turns new connections away before it stops listening."""

    leaving: asyncio.Task[None] | None = None

    def handle_exit_signal(self) -> None:
        """Stop gracefully (SIGTERM)."""
        if self.leaving is None:
            self.leaving = self.loop.create_task(self._leave())

    async def _leave(self) -> None:
        listeners = [listener.sock for listener in self.sockets if turn_away(listener.sock)]
        if listeners:
            await asyncio.sleep(_SETTLE)
        while any(map(_is_waiting, listeners)):  # noqa: ASYNC110  (the kernel tells nobody when the queue is empty)
            await asyncio.sleep(_BETWEEN_LOOKS)
        super().handle_exit_signal()
