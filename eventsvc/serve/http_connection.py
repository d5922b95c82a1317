"""One HTTP connection, with bounds on everything, and with rules of RFC 9110 and RFC 9112 that uvicorn lacks.

uvicorn's class parses requests and runs the app. This subclass refuses requests that break the rules of HTTP or take
too much room or time. It answers them with a problem (RFC 9457) that quotes nothing of the request.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from eventsvc.serve.answers import begin_without_body, count_unwritten, render_problem, send_without_chunks
from eventsvc.serve.arrival import Arrival, Rejection, check_head, check_line
from eventsvc.serve.bounds import Bounds
from eventsvc.serve.parsing import ParsingInParts
from eventsvc.serve.sockets import is_turned_away, let_in
from eventsvc.serve.transports import Flow, GatheringTransport, Lingering, count_unacknowledged
from eventsvc.telemetry import CONNECTIONS, REFUSED

# A connection that is closed while the client still sends is reset, and the client never sees the answer. So we wait.
_LINGER = 3.0  # seconds
# A request whose client has gone away may be storing events: it gets this much time to finish.
_AFTER_HANGUP = 3.0  # seconds
_MOST_AHEAD = 32  # requests that wait for the answers to earlier requests of their connection
# So many connections beyond the bound get an answer (503) and time to read it; others are closed after the answer.
_MOST_ANSWERED_EXCESS = 32


class _RefusedError(Exception):
    """Ends parsing. A callback of the parser raises it after it has put the rejection into ``_reason``."""


class HttpConnection(ParsingInParts):
    """One connection of a client."""

    def __init__(self, *args: Any, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._serve, self.app = self.app, self._run
        self._running: asyncio.Task[Any] | None = None
        self._answering: RequestResponseCycle | None = None  # the request under way; self.cycle is the latest request
        self._arrival = Arrival(bounds)
        self._reason: Rejection | None = None
        self._refused = False
        self._heard = 0.0
        self._unacknowledged = 0  # bytes of answers that the client had not taken when we last looked
        self.stalled = 0.0  # seconds since the client last took bytes of an answer; 0 if none wait in this process
        self.has_ended = False  # the client has closed its sending side

    # ---- what happens to the connection

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or answer that there are too many."""
        sock = transport.get_extra_info("socket")
        if is_turned_away(sock):
            let_in(sock)
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        CONNECTIONS.inc()
        self.flow = Flow(self)
        self._heard = self.loop.time()
        excess = len(self.connections) - self._bounds.connections
        if excess > 0 and not self._bounds.make_place(cast("set[HttpConnection]", self.connections)):
            self._refuse(Rejection(503, f"This process serves {self._bounds.connections:,} connections at a time."))
            if excess > _MOST_ANSWERED_EXCESS:  # they need descriptors too
                self.transport.close()
        else:
            self._await_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request of a client that has gone away."""
        CONNECTIONS.dec()
        super().connection_lost(exc)
        self.pipeline.clear()
        cycle = self._answering
        if cycle is None or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._running is not None and cycle.response_started:
            self._running.cancel()
        elif self._running is not None:
            self.loop.call_later(_AFTER_HANGUP, self._running.cancel)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Tell whether to keep our sending side open: a client may close its own and wait for the answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.disconnected or self._arrival.part == "body":
            return False
        if cycle.response_started and cycle.scope.get("state", {}).get("endless"):
            return False
        self.has_ended, cycle.keep_alive = True, False
        return True

    def parse(self, data: bytes) -> None:
        """Parse some bytes, and refuse a request that becomes too large."""
        if self._refused:
            return
        self._heard = self.loop.time()
        self._arrival.count(len(data))
        super().parse(data)
        if self._refused:
            return
        if self._arrival.part == "body" and self.cycle.transport is self.transport:
            self.cycle.transport = Lingering(self)  # type: ignore[assignment]
        elif self.timeout_keep_alive_task is None and self.is_idle:  # a line break between requests is no request
            self._await_next()
        if rejection := self._arrival.check_size():
            self._refuse(rejection)

    @property
    def unread(self) -> int:
        """How many bytes of answers wait in this process, because the client does not read them."""
        return int(self.transport.get_write_buffer_size()) + count_unwritten(self._answering)

    def cut_off(self) -> None:
        """Drop what the client has not read, and end the connection."""
        REFUSED.labels("unread").inc()
        self.transport.abort()

    def watch(self, seconds: float) -> None:
        """Add to the time that the client has taken to read or to send, and end a connection that takes too long."""
        self._watch_answer(seconds)
        if not self._arrival.part or self._refused or self.flow.read_paused:
            return
        if rejection := self._arrival.wait(seconds):
            self._refuse(rejection)

    def _watch_answer(self, seconds: float) -> None:
        if not self.unread:
            self.stalled = 0.0
            return
        # The kernel takes bytes only in large steps. So those that it holds count, too, until they are acknowledged.
        unacknowledged = self.unread + count_unacknowledged(self.transport)
        self.stalled = 0.0 if unacknowledged < self._unacknowledged else self.stalled + seconds
        self._unacknowledged = unacknowledged
        if self.stalled > self._bounds.answer_seconds:
            self.cut_off()

    @property
    def pause(self) -> float:
        """How many seconds the client has paused in reading an answer, before a request, or in sending a request."""
        if self.is_idle:
            return max(self.stalled, self.loop.time() - self._heard)
        is_reading = self._answering is self.cycle and not (self._refused or self.flow.read_paused)
        is_sending = is_reading if self._arrival.part == "body" else self._is_free
        return max(self.stalled, self._arrival.arrears if is_sending else 0.0)

    def give_place(self) -> None:
        """End the connection of a client that has paused, because another client needs its place."""
        REFUSED.labels("paused").inc()
        self.transport.abort() if self.unread else self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and no request is under way or has begun."""
        return self._is_free and not self._arrival.part

    @property
    def _is_free(self) -> bool:
        """Whether the connection is open and no request is under way; a request may be arriving."""
        done = self.cycle is None or self.cycle.response_complete
        return done and not self._refused and not self.transport.is_closing()

    def announce_end(self) -> None:
        """Make the answer under way the last one."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._arrival.begin_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        super().on_url(url)
        if rejection := check_line(self.parser.get_method(), self.url):
            raise self._because(rejection)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; trailer fields are ignored."""
        if rejection := self._arrival.count_field(name, value, len(self.headers)):
            raise self._because(rejection)
        if self._arrival.part == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and start the app."""
        if self.check_offer():
            return
        if len(self.pipeline) >= _MOST_AHEAD:
            raise self._because(Rejection(503, f"At most {_MOST_AHEAD} requests may be sent ahead."))
        if rejection := check_head(self.parser.get_http_version(), self.headers):
            raise self._because(rejection)
        super().on_headers_complete()  # raises if the target is no URL
        self._arrival.begin_body()
        if self.parser.get_http_version() == "1.0":
            self.cycle.send = send_without_chunks(self.cycle)  # type: ignore[method-assign]
        # A client that expects 100-continue and is refused may still send the body, so the next bytes are ambiguous.
        if self._bounds.closing or self.expect_100_continue:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._arrival.count_body(len(body))
        if self.expect_100_continue:
            self.expect_100_continue = False
            self.cycle.keep_alive = self.parser.should_keep_alive() and not self._bounds.closing
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self.is_offer:
            return
        self._arrival.end()
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_next()

    def on_response_complete(self) -> None:
        """Continue with the next request."""
        self._heard = self.loop.time()
        super().on_response_complete()
        if self._arrival.part:
            self._unset_keepalive_if_required()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    # ---- running the app, and refusing

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        self._running = asyncio.current_task()
        cycle: RequestResponseCycle = receive.__self__
        if self._arrival.part == "body" and scope is self.scope:
            receive = begin_without_body(receive)
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not self.transport.is_closing() and not cycle.response_started:
                raise
            # The app has cancelled the answer: do not wait for the client to read the rest.
            cycle.disconnected = True
            self.transport.abort()
        finally:
            if self._answering is cycle:  # the next request may have begun
                self._running = None

    def _because(self, rejection: Rejection) -> Exception:
        self._reason = rejection
        return _RefusedError()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser could not read."""
        self._refuse(self._reason or Rejection(400, msg))

    def _refuse(self, rejection: Rejection) -> None:
        """Answer with a problem if no other answer is under way, and close."""
        REFUSED.labels(str(rejection.status)).inc()
        self._refused = True
        if self._arrival.part == "body" and self.pipeline:  # the refused request has not begun
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._answering  # type: ignore[assignment]
            self._arrival.part = ""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._arrival.part != "body":  # a later request is refused: earlier requests still get their answers
                cycle.keep_alive = False
                cycle.transport = Lingering(self)  # type: ignore[assignment]
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        elif self._arrival.part == "body":  # the request has been answered already
            self.transport.close()
            return
        self.transport.write(render_problem(rejection.status, rejection.detail))
        self.linger()

    def linger(self) -> None:
        """Close our sending side; receive and drop further bytes for a while."""
        if self.has_ended or not (self._arrival.part or self._refused):
            self.transport.close()
            return
        self._refused, self.unparsed = True, b""
        with suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER, self.transport.close)

    def _await_next(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
