"""GET /event/stream: the live tail as server-sent events."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson

from eventsvc.api.export import describe_error, one_line
from eventsvc.api.parameters import plain_parameters, read_query
from eventsvc.errors import EventsvcError, InvalidParameter
from eventsvc.event import Event
from eventsvc.query.to_predicate import Candidate, to_predicate
from eventsvc.search.listeners import Listener, Topic
from eventsvc.search.live import BROKEN, Live

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.log.read.reader import Reader
    from eventsvc.search.search import Compiled

PARAMETERS = ("q", "tz", "lastEventId", "ticket")
MEDIA_TYPE = "text/event-stream"
HEARTBEAT = 15.0  # seconds without an event
GRACE = 10.0  # seconds in which a slow client may read the message that its stream ends
_RETRY = 2000  # ms until a client connects again
_CATCH_UP = 500  # events at a time
_AT_ONCE = 256 * 1024  # characters of text at a time

_TOKEN = struct.Struct(">Bq")
_VERSION = 1
_DIGEST = 6


def render(event: Event) -> bytes:
    """Write an event as a server-sent event."""
    return b"id: %s\ndata: %s\n\n" % (make_token(event.seq), one_line(orjson.dumps(event.to_json())))


def make_token(seq: int) -> bytes:
    """Write a seq as an event id. The id is opaque, so that nobody takes gaps between seqs for losses."""
    content = _TOKEN.pack(_VERSION, seq)
    return urlsafe_b64encode(content + _digest(content))


def read_token(text: str) -> int:
    """Read an id that ``make_token`` wrote.

    Raises:
        InvalidParameter: the text is not such an id.
    """
    try:
        raw = urlsafe_b64decode(text.encode("ascii"))
        content, digest = raw[: _TOKEN.size], raw[_TOKEN.size :]
        version, seq = _TOKEN.unpack(content)
    except (UnicodeEncodeError, Base64Error, struct.error) as exc:
        raise InvalidParameter("Last-Event-ID", "it is not an id of this stream") from exc
    if version != _VERSION or digest != _digest(content) or seq < 0:
        raise InvalidParameter("Last-Event-ID", "it is not an id of this stream")
    return int(seq)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST, person=b"eventsvc stream").digest()


class StreamResource:
    """The resource of /event/stream."""

    types = (MEDIA_TYPE,)

    def __init__(self, live: Live, reader: Reader, *, heartbeat: float = HEARTBEAT, grace: float = GRACE) -> None:
        self._live, self._reader = live, reader
        self._heartbeat, self._grace = heartbeat, grace

    async def on_get(self, req: Request, resp: Response) -> None:
        """Send the events since Last-Event-ID, then new events as they are stored."""
        given = plain_parameters(req, PARAMETERS)
        query = await read_query(req, given, round(time.time() * 1000))
        token = req.get_header("Last-Event-ID") or given.get("lastEventId")
        after = read_token(token) if token else None
        if after is not None and after > (await self._reader.state()).drawn:
            raise InvalidParameter("Last-Event-ID", "it is from another log: start again without it")
        await self._live.follow()
        resp.content_type = MEDIA_TYPE
        req.scope.setdefault("state", {})["endless"] = True  # a client that closes its sending side has gone away
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Accel-Buffering", "no")  # nginx would hold events back
        root = req.scope.get("root_path", "")
        options: dict[str, Any] = {"heartbeat": self._heartbeat, "grace": self._grace, "root": root}
        resp.stream = Sender(self._live, self._reader, query, after, **options)


class Sender:
    """The body of one client's answer. ``Live.follow`` must have been called before.

    Falcon calls ``close`` when the client has gone away, or when the stream has ended.
    """

    def __init__(
        self,
        live: Live,
        reader: Reader,
        query: Compiled,
        after: int | None,
        *,
        heartbeat: float,
        grace: float,
        root: str = "",
    ) -> None:
        self._live, self._reader, self._query = live, reader, query
        self._heartbeat, self._grace, self._root = heartbeat, grace, root
        self._topic = Topic(query.text, _everything if query.node is None else to_predicate(query.node))
        self._reached = live.reached if after is None else after
        self._listener: Listener | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._steps = self._send()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._task = asyncio.current_task()
        return await anext(self._steps)

    async def close(self) -> None:
        """Remove the listener, and undo ``Live.follow``."""
        await self._steps.aclose()
        if self._cut is not None:
            self._cut.cancel()
        if self._listener is not None:
            self._live.leave(self._listener)
        await self._live.unfollow()

    async def _send(self) -> AsyncGenerator[bytes, None]:
        # Send an id before any event, so that a client whose connection breaks at once loses nothing.
        yield b"retry: %d\nid: %s\n\n" % (_RETRY, make_token(self._reached))
        try:
            while self._listener is None and not self._live.closing:
                yield await self._catch_up()
            while self._listener is not None and not self._live.closing and not self._listener.lost:
                yield await self._take(self._listener)
        except EventsvcError as exc:
            yield _message(describe_error(exc, self._root))
            return
        if self._live.closing:
            yield b": the service stops; come back in a moment\n\n"
        else:
            yield _message(_CUT_OFF | {"detail": self._listener.lost if self._listener is not None else BROKEN})

    async def _catch_up(self) -> bytes:
        """Give missed events. Once there are none left, register the listener."""
        while (listener := self._live.listen(self._topic, self._reached)) is None:
            if not await self._live.reach(self._reached, self._heartbeat):
                return self._beat(self._reached)
            if self._live.reached > self._reached:
                return await self._missed(self._live.reached)
        self._listener = listener
        listener.on_lost = self._cut_off
        return b": live\n\n"

    async def _missed(self, upto: int) -> bytes:
        """Read some of the missed events up to a seq, which must not be beyond the horizon."""
        span = await self._reader.span(self._query.log, after=self._reached, upto=upto, limit=_CATCH_UP, size=_AT_ONCE)
        self._reached = span.reached
        return b"".join(map(render, span.events)) or self._beat(self._reached)

    async def _take(self, listener: Listener) -> bytes:
        return await listener.take(self._heartbeat) or self._beat(listener.reached)

    def _beat(self, seq: int) -> bytes:
        """Write a heartbeat, which is no event but advances the client's Last-Event-ID."""
        return b": heartbeat\nid: %s\n\n" % make_token(seq)

    def _cut_off(self) -> None:
        """End the connection after some time, in which the client may read the last message."""
        if self._task is not None:
            self._cut = asyncio.get_running_loop().call_later(self._grace, self._task.cancel)


def _everything(_candidate: Candidate) -> bool:
    return True


_CUT_OFF = {"type": "about:blank", "title": "The stream was cut off"}


def _message(problem: dict[str, Any]) -> bytes:
    return b"event: error\ndata: %s\n\n" % orjson.dumps(problem)
