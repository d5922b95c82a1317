"""Turn new connections away in the kernel, so that a service stops without a failed request.

A listening socket that is closed resets the connections that nobody has accepted yet. Their requests fail although a
balancer could have sent them elsewhere. So the service first turns new connections away, then accepts and serves
those that have reached the socket, and only then closes the socket.
"""

from __future__ import annotations

import select
import socket
import sys

# The kernel drops packets that have fewer hops left than this (ip(7), for RFC 5082). Hardly anybody starts with 255:
# nothing gets through any more, except what the kernel knows as the end of a handshake.
_IP_MINTTL = 21  # linux/in.h; Python has no name for them
_IPV6_MINHOPCOUNT = 73
_FAMILIES = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MINTTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT),
}


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection reach ``listener``; what has reached it can still be accepted.

    A new client is neither let in nor refused. It asks again after a second, when the socket is closed, and is
    refused then, which tells a balancer to ask the next process. Tell whether the system can do this.
    """
    return _set_hops(listener, 255)


def is_turned_away(sock: socket.socket) -> bool:
    """Tell whether a listener turns others away, or a connection inherited that from one that does."""
    return sys.platform == "linux" and sock.family in _FAMILIES and sock.getsockopt(*_FAMILIES[sock.family]) != 0


def let_in(connection: socket.socket) -> None:
    """Take back what a connection inherited from a listener that turns others away."""
    _set_hops(connection, 0)


def is_waiting(listener: socket.socket) -> bool:
    """Tell whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _set_hops(sock: socket.socket, least: int) -> bool:
    if sys.platform != "linux" or sock.family not in _FAMILIES:
        return False
    try:
        sock.setsockopt(*_FAMILIES[sock.family], least)
    except OSError:  # a sandbox may forbid it: then the service stops without this step
        return False
    return True
