"""POST /event: one event now, many at once."""

from __future__ import annotations

import asyncio
import hashlib
import io
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import falcon
import orjson

from eventsvc.access.gate import Gate
from eventsvc.api import media
from eventsvc.api.bulk import BulkEvents
from eventsvc.errors import BodyTooLarge, InvalidParameter
from eventsvc.event import Event, format_time
from eventsvc.incoming.parser import EventParser
from eventsvc.incoming.unpack import Unpacked
from eventsvc.log.write.group import Replay
from eventsvc.log.write.idempotency import Key, key_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from falcon.asgi import Request, Response

    from eventsvc.api.media import Form
    from eventsvc.log.write.bulk import BulkWriter, Stored
    from eventsvc.log.write.writer import Writer
    from eventsvc.settings import Settings

_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the request asks for beside storing.

    Attributes:
        partial: store the good events of a bulk though others are bad.
        dry_run: check, store nothing.
        prefer: what to answer: "representation", "minimal", or "" for what is usual.
        key: hash of the Idempotency-Key, and of who sent it.
        gate: what the API key does to each event, if anything.
    """

    partial: bool = False
    dry_run: bool = False
    prefer: str = ""
    key: bytes | None = None
    gate: Gate | None = None


_NONE = Wishes()


class Ingest:
    """Read events from a request, store them, answer."""

    def __init__(self, writer: Writer, bulk_writer: BulkWriter, settings: Settings) -> None:
        self._writer, self._bulk_writer, self._settings = writer, bulk_writer, settings
        self._parser = EventParser()

    async def __call__(self, req: Request, resp: Response) -> None:
        """Answer 201 with what was stored."""
        form = media.read_form(req)
        wishes = self._at_the_gate(req, _read_wishes(req))
        length = req.content_length
        if form.lines or form.encoding or length is None or length > self._settings.body_bytes:
            # The place is taken when the body is complete: a slow client holds none.
            with await media.spool(req, self._settings.bulk_bytes) as body:
                async with self._bulk_writer.place():
                    await self._take_file(body, form, wishes, resp)
            return
        raw = await media.read_small(req, self._settings.body_bytes)
        if _is_array(raw):
            async with self._bulk_writer.place():
                await self._take_many(io.BytesIO(raw), form, wishes, resp)
        else:
            await self._take_one(raw, wishes, resp)

    def _at_the_gate(self, req: Request, wishes: Wishes) -> Wishes:
        grant = req.context.grant
        return replace(wishes, gate=Gate(self._parser, grant)) if grant.touches_events else wishes

    async def _take_file(self, body: IO[bytes], form: Form, wishes: Wishes, resp: Response) -> None:
        if form.lines or await asyncio.to_thread(_holds_array, body, form.encoding):
            await self._take_many(body, form, wishes, resp)
        else:
            raw = await asyncio.to_thread(_read_one, body, form.encoding, self._settings.body_bytes)
            await self._take_one(raw, wishes, resp)

    async def _take_one(self, raw: bytes, wishes: Wishes, resp: Response) -> None:
        new = (wishes.gate or self._parser).parse(raw)
        if wishes.dry_run:
            resp.data = orjson.dumps({"dryRun": True, "count": 1})
            return
        stored = await self._writer.append(new, _key_of(wishes, raw))
        if isinstance(stored, Replay):
            resp.set_header("Idempotency-Replayed", "true")
            stored = stored.event
        _answer_one(resp, stored, wishes)

    async def _take_many(self, body: IO[bytes], form: Form, wishes: Wishes, resp: Response) -> None:
        unpacked = Unpacked(body, form.encoding, self._settings.bulk_bytes, digest=wishes.key is not None)
        events = BulkEvents(
            unpacked,
            wishes.gate or self._parser,
            lines=form.lines,
            longest=self._settings.body_bytes,
            most=self._settings.bulk_events,
            partial=wishes.partial,
        )
        if wishes.dry_run:
            count = await self._bulk_writer.check(events)
            resp.data = orjson.dumps({"dryRun": True, "count": count} | _rejected(events, wishes))
            return
        stored = await self._bulk_writer.store(events, wishes.key)
        if stored.replayed:
            resp.set_header("Idempotency-Replayed", "true")
        await self._answer_many(resp, stored, events, wishes)

    async def _answer_many(self, resp: Response, stored: Stored, events: BulkEvents, wishes: Wishes) -> None:
        resp.status = falcon.HTTP_200 if wishes.partial or not stored.count else falcon.HTTP_201
        if wishes.prefer == "representation" and not wishes.partial:
            resp.set_header("Preference-Applied", "return=representation")
            if stored.replayed:
                await self._bulk_writer.check_whole(stored)
            resp.content_type = falcon.MEDIA_JSON
            resp.stream = _represent(self._bulk_writer.read(stored))
            return
        resp.data = orjson.dumps(_summarize(stored) | _rejected(events, wishes))


def _is_array(raw: bytes) -> bool:
    first = raw[:1]
    return (raw.lstrip()[:1] if first.isspace() else first) == b"["


def _holds_array(body: IO[bytes], encoding: str) -> bool:
    """Look at the first character that is not space, and go back to the start."""
    reader = Unpacked(body, encoding, 1024 * 1024)
    begin = b""
    while not begin and (block := reader.read(4096)):
        begin = block.lstrip()
    body.seek(0)
    return begin[:1] == b"["


def _read_one(body: IO[bytes], encoding: str, limit: int) -> bytes:
    raw = Unpacked(body, encoding, limit).read(limit + 1)
    if len(raw) > limit:
        raise BodyTooLarge(f"the body of one event is larger than {limit:,} bytes")
    return raw


def _read_wishes(req: Request) -> Wishes:
    key = req.get_header("Idempotency-Key")
    prefer = req.get_header("Prefer")
    if key is None and prefer is None and not req.query_string:
        return _NONE
    unknown = sorted(set(req.params) - {"partial", "dryRun"})
    if unknown:
        raise InvalidParameter(unknown[0], "no such parameter; there are partial and dryRun")
    return Wishes(
        partial=_read_flag(req, "partial"),
        dry_run=_read_flag(req, "dryRun"),
        prefer=_read_preference(prefer or ""),
        key=None if key is None else key_hash(_read_key(key), req.context.grant.name),
    )


def _read_flag(req: Request, name: str) -> bool:
    value = req.get_param(name, default="false")
    if value not in {"true", "false"}:
        raise InvalidParameter(name, "is true or false")
    return value == "true"


def _read_preference(text: str) -> str:
    """Read RFC 7240; what we do not know is to be ignored."""
    for preference in text.lower().split(","):
        name, _, value = preference.partition("=")
        if name.strip() == "return" and (value := value.partition(";")[0].strip().strip('"')) in _PREFERENCES:
            return value
    return ""


_PREFERENCES = {"representation", "minimal"}


def _read_key(text: str) -> str:
    """Read the header with or without the quotes that the draft asks for."""
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidParameter("Idempotency-Key", f"is 1 to {_LONGEST_KEY} printable ASCII characters")
    return key


def _key_of(wishes: Wishes, raw: bytes) -> Key | None:
    if wishes.key is None:
        return None
    return Key(wishes.key, hashlib.blake2b(raw, digest_size=32).digest())


def _answer_one(resp: Response, event: Event, wishes: Wishes) -> None:
    """201, Location, and the event as every later GET gives it."""
    resp.status = falcon.HTTP_201
    resp.set_header("Location", f"/event/{event.id}")
    if wishes.prefer:
        resp.set_header("Preference-Applied", f"return={wishes.prefer}")
    resp.data = b"" if wishes.prefer == "minimal" else orjson.dumps(event.to_json())


def _summarize(stored: Stored) -> dict[str, Any]:
    count = stored.count
    return {
        "count": count,
        "firstId": stored.id(0) if count else None,
        "lastId": stored.id(count - 1) if count else None,
        "createdAt": format_time(stored.created_at),
    }


def _rejected(events: BulkEvents, wishes: Wishes) -> dict[str, Any]:
    return events.report() if wishes.partial else {}


async def _represent(batches: AsyncIterator[list[Event]]) -> AsyncIterator[bytes]:
    """Write the array of all events, a batch at a time."""
    before = b"["
    async for batch in batches:
        yield before + orjson.dumps([event.to_json() for event in batch])[1:-1]
        before = b","
    yield b"[]" if before == b"[" else b"]"
