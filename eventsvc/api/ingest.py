"""POST /event: store one or many events."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import falcon
import msgspec
import orjson

from eventsvc.access.gate import Gate
from eventsvc.api import media
from eventsvc.api.bulk import BulkEvents, BulkLayout, InvalidLines
from eventsvc.api.export import write_array
from eventsvc.api.store_options import StoreOptions, read_options
from eventsvc.errors import BodyTooLarge, Forbidden, InvalidBody, InvalidEvents
from eventsvc.event import Event, format_time
from eventsvc.incoming.parser import EventParser
from eventsvc.incoming.sanitizer import Sanitizer
from eventsvc.incoming.shapes import Shaper, is_envelope
from eventsvc.incoming.split import BOM, ENVELOPE, split_json
from eventsvc.incoming.unpack import Unpacked
from eventsvc.log.write.group import Replay
from eventsvc.log.write.idempotency import IdempotencyKey

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.api.media import BodyForm
    from eventsvc.event import NewEvent
    from eventsvc.incoming.parser import Parser
    from eventsvc.log.write.bulk import Stored
    from eventsvc.log.write.bulk_writer import BulkWriter
    from eventsvc.log.write.writer import Writer
    from eventsvc.settings import Settings

_AT_ONCE = 16 * 1024  # bytes; the event loop itself parses an event up to this size
_SPARE = 1024 * 1024  # bytes; so ``Unpacked`` does not refuse the byte that ``_read_begin`` reads beyond the limit


@dataclass(frozen=True, slots=True)
class _Body:
    """A complete body.

    Attributes:
        small: whether the body is known to be so small that it is parsed quickly.
        envelope: whether the body is an object whose only member is an array of events.
    """

    file: IO[bytes]
    form: BodyForm
    small: bool
    envelope: bool = False


class Ingest:
    """Reads the events of a request, stores them, and answers."""

    def __init__(self, writer: Writer, bulk_writer: BulkWriter, settings: Settings) -> None:
        self._writer, self._bulk_writer, self._settings = writer, bulk_writer, settings
        self._parser = EventParser()
        self._reading = asyncio.Semaphore(1)
        self._spool = media.Spool(settings.spool_bytes)

    async def __call__(self, req: Request, resp: Response) -> None:
        """Answer 201 with the stored event, or with the number of stored events."""
        options = self._at_the_gate(req, read_options(req))
        form = media.read_form(req, shaped=options.shaped)
        length = req.content_length
        small = length is not None and length <= self._settings.body_bytes and not form.encoding
        if form.lines or not small:
            # The request takes its place only when the body is complete, so a slow client holds no place.
            async with self._spool.receive(req, self._settings.bulk_bytes) as body, self._bulk_writer.place():
                await self._take_file(_Body(body, form, small=small), options, resp)
            return
        raw = (await media.read_small(req, self._settings.body_bytes)).removeprefix(BOM)
        large = len(raw) > _AT_ONCE
        envelope = options.shaped and (await asyncio.to_thread(is_envelope, raw) if large else is_envelope(raw))
        if envelope or _is_array(raw) or not await self._take_one(raw, options, resp):
            async with self._bulk_writer.place():
                await self._take_many(_Body(io.BytesIO(raw), form, small=True, envelope=envelope), options, resp)

    def _at_the_gate(self, req: Request, options: StoreOptions) -> StoreOptions:
        grant = req.context.grant
        return replace(options, gate=Gate(self._parser, grant)) if grant.touches_events else options

    async def _take_file(self, body: _Body, options: StoreOptions, resp: Response) -> None:
        form, limit = body.form, self._settings.body_bytes
        if form.text and await asyncio.to_thread(_holds_json, body.file, form.encoding, limit):
            body = replace(body, form=(form := replace(form, lines=False)))
        if not form.lines and not await asyncio.to_thread(_holds_array, body.file, form.encoding):
            raw = await asyncio.to_thread(_read_one, body.file, form.encoding, limit)
            if options.shaped and await asyncio.to_thread(_holds_envelope, raw, limit):
                body = replace(body, envelope=True)
            elif len(raw) <= limit and await self._take_one(raw, options, resp):
                return
            elif len(raw) > limit and not options.partial and not await asyncio.to_thread(_holds_several, raw):
                raise BodyTooLarge(f"the body of one event is larger than {limit:,} bytes")
        await self._take_many(body, options, resp)

    async def _take_one(self, raw: bytes, options: StoreOptions, resp: Response) -> bool:
        """Store one event. If several events follow one another, store nothing and return False."""
        parser = self._choose_parser(options)
        invalid = InvalidLines(partial=options.partial)
        try:
            new = await self._parse(parser, raw)
        except (Forbidden, InvalidBody, InvalidEvents) as exc:
            if isinstance(exc, InvalidBody) and await asyncio.to_thread(_holds_several, raw):
                return False
            if not options.partial:
                raise
            invalid.add(1, exc)
            new = None
        report = _report(invalid, parser, options)
        if options.dry_run:
            resp.data = orjson.dumps({"dryRun": True, "count": int(new is not None)} | report)
        elif new is None:
            resp.data = orjson.dumps(_summarize(None) | report)
        else:
            await self._store_one(new, _key_of(options, raw), (resp, options, report))
        return True

    async def _parse(self, parser: Parser, raw: bytes) -> NewEvent:
        """Parse an event. Large events are parsed in a thread, one at a time, because they may take long."""
        if len(raw) <= _AT_ONCE:
            return parser.parse(raw)
        async with self._reading:
            return await asyncio.to_thread(parser.parse, raw)

    def _choose_parser(self, options: StoreOptions, form: BodyForm | None = None) -> Parser:
        parser: Parser = options.gate or self._parser
        if options.sanitize:
            parser = Sanitizer(parser)
        if options.defaults is None:
            return parser
        lines, fields = (form.lines, form.fields) if form else (False, False)
        return Shaper(parser, options.defaults, self._parser.email_fault, lines=lines, fields=fields)

    async def _store_one(
        self, new: NewEvent, key: IdempotencyKey | None, answer: tuple[Response, StoreOptions, dict[str, Any]]
    ) -> None:
        resp, options, report = answer
        stored = await self._writer.append(new, key)
        if isinstance(stored, Replay):
            resp.set_header("Idempotency-Replayed", "true")
            stored = stored.event
        _answer_one(resp, stored, options)
        if options.partial:
            resp.status = falcon.HTTP_200
            resp.data = orjson.dumps(_summarize(stored) | report)

    async def _take_many(self, body: _Body, options: StoreOptions, resp: Response) -> None:
        form = body.form
        small = body.small or await asyncio.to_thread(_is_small, body.file, form.encoding, self._settings.body_bytes)
        unpacked = Unpacked(body.file, form.encoding, self._settings.bulk_bytes, digest=options.key is not None)
        parser = self._choose_parser(options, form)
        kind: BulkLayout = "lines" if form.lines else "envelope" if body.envelope else "json"
        events = BulkEvents(unpacked, parser, self._settings, options, kind)
        if options.dry_run:
            count = await self._bulk_writer.check(events, small=small)
            resp.data = orjson.dumps({"dryRun": True, "count": count} | _report(events.invalid, parser, options))
            return
        stored = await self._bulk_writer.store(events, options.key, small=small)
        if stored.replayed:
            resp.set_header("Idempotency-Replayed", "true")
        await self._answer_many(resp, stored, options, _report(events.invalid, parser, options))

    async def _answer_many(self, resp: Response, stored: Stored, options: StoreOptions, report: dict[str, Any]) -> None:
        resp.context.audit = {"events": stored.count}
        resp.status = falcon.HTTP_200 if options.partial or not stored.count else falcon.HTTP_201
        if options.prefer == "representation" and not options.partial:
            resp.set_header("Preference-Applied", "return=representation")
            if stored.replayed:
                await self._bulk_writer.check_whole(stored)
            resp.content_type = falcon.MEDIA_JSON
            resp.stream = write_array(self._bulk_writer.read(stored))
            return
        resp.data = orjson.dumps(_summarize(stored) | report)


def _is_array(raw: bytes) -> bool:
    first = raw[:1]
    return (raw.lstrip()[:1] if first.isspace() else first) == b"["


def _is_small(body: IO[bytes], encoding: str, limit: int) -> bool:
    """Tell whether a body, decompressed, has at most so many bytes; rewind the file."""
    try:
        return len(_read_begin(body, encoding, limit)) <= limit
    except InvalidBody:  # whoever reads the events finds the same
        return True


def _holds_array(body: IO[bytes], encoding: str) -> bool:
    """Tell whether a body's first character after white space begins an array; rewind the file."""
    reader = Unpacked(body, encoding, 1024 * 1024)
    begin = b""
    while not begin and (block := reader.read(4096)):
        begin = block.removeprefix(BOM).lstrip()
    body.seek(0)
    return begin[:1] == b"["


def _read_begin(body: IO[bytes], encoding: str, limit: int) -> bytes:
    """Read up to one byte beyond a limit, decompressed, and rewind the file."""
    try:
        return Unpacked(body, encoding, limit + _SPARE).read(limit + 1)
    finally:
        body.seek(0)


def _read_one(body: IO[bytes], encoding: str, limit: int) -> bytes:
    """Read up to one byte more than an event may have, and rewind the file."""
    return _read_begin(body, encoding, limit).removeprefix(BOM)


def _holds_envelope(raw: bytes, limit: int) -> bool:
    """Tell whether a body is an envelope with an array of events. Only the beginning of a too large body is read."""
    return is_envelope(raw) if len(raw) <= limit else ENVELOPE.match(raw) is not None and not _holds_several(raw)


def _holds_json(body: IO[bytes], encoding: str, limit: int) -> bool:
    """Tell whether a body with a Content-Type of text is a JSON object or array: some senders set no type."""
    raw = _read_one(body, encoding, limit)
    if len(raw) > limit or raw.lstrip()[:1] not in {b"{", b"["}:
        return False
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _holds_several(raw: bytes) -> bool:
    """Tell whether a text holds several objects, as Fluent Bit's json_stream or NDJSON with another type does."""
    begin = [event for _, event in itertools.islice(split_json(io.BytesIO(raw), len(raw)), 2)]
    return [isinstance(event, bytes) and event.lstrip()[:1] == b"{" for event in begin] == [True, True]


def _key_of(options: StoreOptions, raw: bytes) -> IdempotencyKey | None:
    if options.key is None:
        return None
    return IdempotencyKey(options.key, hashlib.blake2b(raw, digest_size=32).digest() + options.variant)


def _answer_one(resp: Response, event: Event, options: StoreOptions) -> None:
    """Answer 201 with Location and with the event as every later GET gives it."""
    resp.context.audit = {"events": 1}
    resp.status = falcon.HTTP_201
    resp.set_header("Location", f"/event/{event.id}")
    if options.prefer:
        resp.set_header("Preference-Applied", f"return={options.prefer}")
    resp.data = b"" if options.prefer == "minimal" else orjson.dumps(event.to_json())


def _summarize(stored: Stored | Event | None) -> dict[str, Any]:
    match stored:
        case None:
            count, first, last, time = 0, None, None, None
        case Event():
            count, first, last, time = 1, stored.id, stored.id, format_time(stored.created_at)
        case _:
            count, time = stored.count, format_time(stored.created_at)
            first, last = (stored.id(0), stored.id(count - 1)) if count else (None, None)
    return {"count": count, "firstId": first, "lastId": last, "createdAt": time}


def _report(invalid: InvalidLines, parser: Parser, options: StoreOptions) -> dict[str, Any]:
    sanitizer = parser.parser if isinstance(parser, Shaper) else parser
    sanitized = {"sanitized": sanitizer.sanitized} if isinstance(sanitizer, Sanitizer) else {}
    return sanitized | (invalid.report() if options.partial else {})
