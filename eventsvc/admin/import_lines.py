"""Parse the lines of an import. An event may bring its own id and createdAt."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventsvc.errors import Fault, InvalidBody, InvalidEvents
from eventsvc.event import NewEvent
from eventsvc.incoming.parser import EventParser

_DAY = 86_400_000
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Imported:
    """One event of an import.

    Attributes:
        id: 16 bytes: the event's own id, or an id derived from the name of the import and all lines up to this line.
            An import under the same name derives the same id again, even if the file was renamed or has grown.
        created_at: the event's own time, in ms since 1970; None for the time at which the event is stored.
    """

    id: bytes
    created_at: int | None
    new: NewEvent


class ImportParser:
    """Parses the lines of one file, which must come in order."""

    def __init__(self, source: str) -> None:
        self._parser = EventParser()
        self._lines = hashlib.blake2b(source.encode(errors="replace"), digest_size=16)
        self._latest = round(time.time() * 1000) + _DAY

    def parse(self, number: int, raw: bytes) -> Imported:
        """Read and check one line.

        Raises:
            InvalidBody: the line is not JSON.
            InvalidEvents: the event breaks rules.
        """
        self._lines.update(b"%d\n%b\n" % (number, raw.rstrip(b"\r")))
        own_id = own_time = None
        sent = raw
        if b'"id"' in raw or b'"createdAt"' in raw:
            own_id, own_time, sent = self._take_apart(raw)
        new = self._parser.parse(sent)
        return Imported(own_id or self._derive_id(), own_time, new)

    def _take_apart(self, raw: bytes) -> tuple[bytes | None, int | None, bytes]:
        try:
            members = _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None, None, raw  # the parser says what is wrong
        _check_twice(raw, members)
        own_id, own_time = members.pop("id", None), members.pop("createdAt", None)
        rest = b",".join(msgspec.json.encode(key) + b":" + bytes(value) for key, value in members.items())
        return _read_id(own_id), self._read_time(own_time), b"{" + rest + b"}"

    def _read_time(self, raw: msgspec.Raw | None) -> int | None:
        if raw is None:
            return None
        try:
            moment = datetime.fromisoformat(_text(raw))
        except (ValueError, TypeError) as exc:
            raise _fault("/createdAt", "must be an RFC 3339 time, like 2018-01-31T12:00:00.000Z") from exc
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        try:
            since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        except OverflowError as exc:
            raise _fault("/createdAt", "is beyond the calendar") from exc
        milliseconds = since.days * _DAY + since.seconds * 1000 + since.microseconds // 1000
        if not 0 <= milliseconds <= self._latest:
            raise _fault("/createdAt", "must lie between 1970 and tomorrow")
        return milliseconds

    def _derive_id(self) -> bytes:
        return uuid.UUID(bytes=self._lines.digest(), version=4).bytes


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)


def _read_id(raw: msgspec.Raw | None) -> bytes | None:
    if raw is None:
        return None
    try:
        own = uuid.UUID(_text(raw))
    except (ValueError, msgspec.MsgspecError) as exc:
        raise _fault("/id", "must be a UUID") from exc
    return own.bytes


def _check_twice(raw: bytes, members: dict[str, msgspec.Raw]) -> None:
    """Refuse an event that has a key twice, which the decoder does not notice."""
    # PERF: compact JSON without duplicate keys is exactly as long as its parts; only other lines are parsed again.
    parts = sum(len(key) + len(value) + 4 for key, value in members.items()) + 1
    if parts == len(raw.strip()):
        return
    try:
        pairs: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=list)
    except (ValueError, RecursionError) as exc:
        raise InvalidBody(f"not JSON that can be read: {exc}") from exc
    if len({key for key, _ in pairs}) < len(pairs):
        twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        raise _fault(f"/{twice[0]}", "is given more than once")


def _fault(pointer: str, detail: str) -> InvalidEvents:
    return InvalidEvents((Fault(pointer, detail),))
