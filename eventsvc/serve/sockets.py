"""Options of the listening sockets.

``turn_away`` turns new connections away in the kernel, so that a service stops without a failed request.

Closing a listening socket resets the connections that were not accepted yet. Their requests fail, although a load
balancer could have sent them elsewhere. So the service first turns new connections away, then accepts and serves the
connections that have reached the socket, and only then closes the socket.
"""

from __future__ import annotations

import select
import socket
import sys

# The kernel drops packets with fewer hops left than this (ip(7), for RFC 5082). Hardly any packet starts with 255, so
# the kernel lets through only the packets that complete a handshake.
_IP_MINTTL = 21  # linux/in.h; Python has no name for them
_IPV6_MINHOPCOUNT = 73
_FAMILIES = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MINTTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT),
}

# The kernel would take 3 MiB of an answer for a client that reads nothing, and this process could not free them.
_UNSENT = 256 * 1024  # bytes


def bound_unsent(listener: socket.socket) -> None:
    """Let the kernel take only so many bytes that it cannot send yet. Accepted connections inherit this."""
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection reach a listener; connections that have reached it can still be accepted.

    A new client is neither accepted nor refused. Its system tries again after one second. By then the socket is closed
    and the client is refused, so a load balancer asks the next process.

    Returns:
        Whether the system can do this.
    """
    return _set_hops(listener, 255)


def is_turned_away(sock: socket.socket) -> bool:
    """Tell whether a listener turns connections away, or whether a connection has inherited this from its listener."""
    return sys.platform == "linux" and sock.family in _FAMILIES and sock.getsockopt(*_FAMILIES[sock.family]) != 0


def let_in(connection: socket.socket) -> None:
    """Undo the setting that a connection has inherited from a listener that turns connections away."""
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
