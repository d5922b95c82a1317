"""Transports between uvicorn and the socket of a connection, and the control of their flow."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from eventsvc.serve.http_connection import HttpConnection

_MOST_GATHERED = 64 * 1024  # bytes
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class GatheringTransport:
    """A transport that sends what is written in one round of the event loop together.

    uvicorn writes the head and the body of an answer apart. Sent together, they cost one system call less, and wake the
    client once. And a process that is killed leaves no client with a head whose body never comes.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send the data at the end of this round, or at once if much waits."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED:
            self._send()

    def _send(self) -> None:
        parts, size = self._parts, self._size
        self._parts, self._size = [], 0
        if not parts or self._transport.is_closing():  # between close() and connection_lost(), writing raises
            return
        if size > _MOST_GATHERED:  # PERF: joining megabytes takes milliseconds, because the memory is new each time
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))

    def write_eof(self) -> None:
        """Close the sending side after everything that was written."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Close the connection after everything that was written."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Reset the connection. Otherwise the kernel would keep what it has for a client that does not read."""
        with suppress(OSError, ValueError):  # the socket is closed already
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Flow(FlowControl):
    """Pauses reading while pipelined requests wait for their turn, and while received bytes wait to be parsed."""

    def __init__(self, connection: HttpConnection) -> None:
        super().__init__(connection.transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Read on, unless a request or bytes wait, or the client has closed its sending side."""
        connection = self._connection
        if not (connection.pipeline or connection.has_ended or connection.unparsed):
            super().resume_reading()


class Lingering:
    """The transport of a request whose body is not complete. Closing it waits for the rest, for a while."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection, self._transport = connection, connection.transport
        self.write, self.is_closing = self._transport.write, self._transport.is_closing

    def close(self) -> None:
        """Close the sending side, and the connection a while later."""
        self._connection.linger()


def count_unacknowledged(transport: asyncio.Transport) -> int:
    """Count the bytes in the kernel's send buffer, which the client has not acknowledged (TIOCOUTQ, tcp(7))."""
    try:
        counted = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # another system, or the socket is closed
        return 0
    return int.from_bytes(counted, sys.byteorder)
