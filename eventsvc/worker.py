"""gunicorn's ASGI worker, made to stop without a failed request.

A listening socket that is closed resets the connections that nobody has accepted yet, and their requests fail although
the balancer could have sent them elsewhere. So new connections are turned away first, at the door of the kernel; those
that are inside are accepted and served; only then is the socket closed.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

from gunicorn.workers.gasgi import ASGIWorker

# Long enough for a handshake under way to end and for the event loop to accept what waits.
_SETTLE = 0.25  # seconds

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python has no name for it
# Classic BPF over the TCP header (linux/filter.h): drop what has SYN and not ACK among its flags, let all else pass.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # A = flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # if A == SYN
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFF_FFFF),  # else pass
)


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection reach ``listener``; what has reached it can still be accepted.

    Whoever tries is neither let in nor refused; he asks again after a second, when the socket is closed, and is
    refused then, which tells a balancer to ask the next process. Tell whether the system can do this.
    """
    if sys.platform != "linux" or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    header = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    except OSError:  # a sandbox may forbid it: then as gunicorn does it by itself
        return False
    return True


class Worker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Turns new connections away before it stops listening."""

    def handle_exit_signal(self) -> None:
        """Stop gracefully (SIGTERM)."""
        if all([turn_away(listener.sock) for listener in self.sockets]):  # noqa: C419  (every one of them)
            self.loop.call_later(_SETTLE, super().handle_exit_signal)
        else:
            super().handle_exit_signal()
