"""Stop gunicorn's arbiter and uvicorn's server without a failed request.

All workers share the listening sockets. So the arbiter turns new connections away, and only if the whole service stops.
If a single worker stops, the other workers accept the connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from gunicorn.arbiter import Arbiter as _Arbiter
from uvicorn.config import Config
from uvicorn.server import Server as _Server
from uvicorn_worker import UvicornWorker

from eventsvc.serve.bounds import Bounds
from eventsvc.serve.http_connection import HttpConnection
from eventsvc.serve.memory import Trimmer
from eventsvc.serve.sockets import bound_unsent, is_turned_away, is_waiting, turn_away

# A handshake under way ends within a round trip or two.
_SETTLE = 0.2  # seconds
_BETWEEN_LOOKS = 0.01  # seconds
# A client that sends requests one after the other learns from the next answer that its connection ends.
_LAST_CALL = 1.0  # seconds
# Python's default of 5 ms lets each busy thread delay the event loop for 5 ms, several times in each request.
_SWITCH_INTERVAL = 0.0005  # seconds
# gunicorn kills a worker after 15 s; by then the writer must have stored all events that it accepted.
GRACE = 12  # seconds that requests under way get when the worker stops


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
        """Reap the workers that have ended. gunicorn calls this ten times a second while it stops."""
        if self._stopping:
            # A worker that was forked a moment ago does not receive the first signal.
            self.kill_workers(signal.SIGTERM)
        super().reap_workers()


class Server(_Server):
    """Watches its connections. When the service stops, accepts waiting connections before it closes the socket."""

    def __init__(self, config: Config, bounds: Bounds, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._bounds, self._leave = bounds, leave
        self._looked = time.monotonic()
        self._parent = os.getppid()
        self._trimmer = Trimmer()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002
        """Stop gracefully; on SIGQUIT, within a second. The base class would raise the signal again at the end."""
        self.should_exit = True
        if sig == signal.SIGQUIT:
            self.config.timeout_graceful_shutdown = 1

    async def on_tick(self, counter: int) -> bool:
        """Check every connection once a second, and the memory every ten seconds."""
        if counter % 10 == 0:
            now = time.monotonic()
            # Clients must not be blamed for time in which this process did not run.
            passed, self._looked = min(now - self._looked, 1.5), now
            for connection in self._connections():
                connection.watch(passed)
            self._bounds.make_room(self._connections())
            if os.getppid() != self._parent:  # gunicorn was killed, and could not tell its workers
                self.should_exit = True
        if counter % 100 == 0:
            self._trimmer.trim_if_grown()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the waiting connections, serve all requests, then stop."""
        self._leave()  # otherwise the live streams would last until the time is up
        listeners = [listener for listener in sockets or [] if is_turned_away(listener)]
        while any(map(is_waiting, listeners)):  # noqa: ASYNC110  (the kernel does not report when the queue is empty)
            await asyncio.sleep(_BETWEEN_LOOKS)
        for server in self.servers:
            server.close()
        self._bounds.closing = True
        for connection in self._connections():
            connection.announce_end()
        while any(connection.is_idle for connection in self._connections()):
            for connection in self._connections():
                if connection.is_idle and connection.pause >= _LAST_CALL:
                    connection.transport.close()
            await asyncio.sleep(_LAST_CALL / 10)
        await super().shutdown(sockets)

    def _connections(self) -> list[HttpConnection]:
        return cast("list[HttpConnection]", list(self.server_state.connections))


class Worker(UvicornWorker):  # type: ignore[misc]  # a class of gunicorn's
    """Runs one uvicorn server."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012  (the base class's way)
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # eventsvc.api.edge reads them
        "timeout_graceful_shutdown": GRACE,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logger = logging.getLogger("uvicorn.error")
        # uvicorn's warnings are about faulty requests of clients, which metrics count.
        logger.propagate, logger.level = True, logging.ERROR
        self._bounds = Bounds.of(self.app.settings)
        self.config.http = partial(HttpConnection, bounds=self._bounds)

    async def _serve(self) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self.config.app = self.wsgi
        server = Server(self.config, self._bounds, getattr(self.wsgi, "leave", lambda: None))
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None)
        for listener in self.sockets:
            bound_unsent(getattr(listener, "sock", listener))
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(_Arbiter.WORKER_BOOT_ERROR)
