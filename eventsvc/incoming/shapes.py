"""shape=any: bring what loggers and shippers send by default into the form of an event.

The tables of names.py hold every name that is known. Everything else of a record goes into data under its own name.
Values are passed on as the bytes that were sent, so no digit and no character changes here; the parser that comes next
checks them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from eventsvc import limits
from eventsvc.errors import InvalidBody, UnknownProtocol
from eventsvc.event import format_nanoseconds
from eventsvc.fields import SHORT
from eventsvc.incoming import faults, lenient_json
from eventsvc.incoming.encoded import quote, read_bytes, read_fields
from eventsvc.incoming.members import Member, read_members
from eventsvc.incoming.names import CALL, JOURNAL, LOGURU, MESSAGES, NO_OTLP, OTLP, TIMES
from eventsvc.incoming.occurred import read_number, read_object, read_time
from eventsvc.incoming.sanitizer import Sanitizer
from eventsvc.incoming.split import ENVELOPE, STRING
from eventsvc.text.sanitize import cut_middle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventsvc.event import NewEvent
    from eventsvc.incoming.faults import EmailFault
    from eventsvc.incoming.parser import Parser

_WHOLE_STRING = re.compile(STRING, re.DOTALL)


def is_envelope(raw: bytes) -> bool:
    """Tell whether a whole body is an object whose only member is an array of records."""
    if ENVELOPE.match(raw) is None or not raw.rstrip()[:-1].rstrip().endswith(b"]"):
        return False
    try:
        return len(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])) == 1
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = read_members(raw)  # a record may hold NaN, or something that is not JSON
        return members is not None and len(members) == 1


class Shaper:
    """Writes records as events, and passes them on to a parser."""

    def __init__(
        self,
        parser: Parser,
        defaults: Mapping[str, str],
        email_fault: EmailFault,
        *,
        lines: bool,
        fields: bool = False,
    ) -> None:
        """Make a shaper.

        Args:
            parser: reads the events.
            defaults: email, environment and component of events that lack them.
            email_fault: says what is wrong with an address.
            lines: whether a record that is not JSON is a message in plain text; otherwise it is refused.
            fields: whether such a record may be a form (application/x-www-form-urlencoded).
        """
        self.parser = parser
        self._defaults = {_key(name): msgspec.json.encode(value) for name, value in defaults.items()}
        self._email_fault, self._lines, self._fields = email_fault, lines, fields

    def parse(self, raw: bytes) -> NewEvent:
        """Parse one record: a JSON object, a JSON value of another type, or a line of text.

        Raises:
            InvalidBody: the text is not JSON, and is not a line.
            InvalidEvents: the event breaks rules. The pointers lead into the event, not into the record.
            UnknownProtocol: the record is a whole request of another protocol, which holds many records.
        """
        members = read_members(raw)
        if members is None and self._fields:
            members = read_fields(raw)
        if members is not None:
            try:
                return self._parse_event(self._write(_open(_Record(members, raw))), raw)
            except InvalidBody:
                if not self._lines:
                    lenient_json.load(raw)  # raises, with the place in the text as sent
                    raise
        return self._parse_event(self._write(_Record([(_MESSAGE, self._text(raw))], raw)), raw)

    def _parse_event(self, event: bytes, raw: bytes) -> NewEvent:
        """Parse an event that was written from a record. Errors about wrong UTF-8 name places in the record."""
        if not raw.isascii():
            try:
                lenient_json.decode(raw)
            except InvalidBody as exc:
                if isinstance(self.parser, Sanitizer):
                    return self.parser.sanitize(event, exc)
                raise
        return self.parser.parse(event)

    def _text(self, raw: bytes) -> bytes:
        """Give the message of a record that is no object, as a JSON string."""
        if self._lines:
            return quote(raw.removesuffix(b"\r"))
        lenient_json.load(raw.decode(errors="replace").encode())  # raises if it is not JSON
        text = raw.strip()
        return text if _WHOLE_STRING.fullmatch(text) else quote(text)

    def _write(self, record: _Record) -> bytes:
        event = [(key, value) for key in _SHORT if (value := self._take_field(record, key))]
        event.append((_MESSAGE, _take_message(record)))
        if time := _take_time(record):
            event.append((b'"occurredAt"', time))
        if data := _take_data(record):
            event.append((_DATA, data))
        return _join(event)

    def _take_field(self, record: _Record, key: bytes) -> bytes | None:
        """Give the value of a field. An invalid value stays in the record, so it goes into data; the default counts."""
        text = _read_text(record.get(key))
        if text is not None and faults.text_fault(key[1:-1].decode(), text, self._email_fault) is None:
            return record.take(key)
        return self._defaults.get(key)


class _Record:
    """The members of a record, and which of them are taken. Of members with the same name, the last counts."""

    def __init__(self, members: list[Member], raw: bytes) -> None:
        self.members, self.raw = members, raw
        self.values = dict(members)
        self._taken = list[Member]()

    def get(self, key: bytes) -> bytes:
        """Give the value of a member; nothing if there is no such member."""
        return self.values.get(key, b"")

    def take(self, key: bytes) -> bytes:
        """Give the value of a member, and mark the member as taken, so that it does not go into data."""
        value = self.values[key]
        self.drop((key, value))
        return value

    def drop(self, member: Member) -> None:
        """Mark a member as taken, so that it does not go into data."""
        self._taken.append(member)

    def all(self, key: bytes) -> list[bytes]:
        """Give all values of a member that may be given more than once, the last value first."""
        if key not in self.values:
            return []
        return [value for name, value in reversed(self.members) if name == key]

    def rest(self) -> list[Member]:
        """Give the members that are not taken."""
        rest = self.members[::-1]
        for member in self._taken:
            rest.remove(member)
        return rest[::-1]


def _open(record: _Record) -> _Record:
    """Give the record in winston's envelope or in loguru's, or the record itself."""
    if _OTLP in record.values and len(record.members) == 1:
        raise UnknownProtocol(f"the body is a request of {NO_OTLP}")
    if len(record.members) != 2:  # noqa: PLR2004
        return record
    method, params = map(record.get, _CALL)
    if method == b'"collect"' and (members := read_members(params)) is not None:
        return _Record(members, params)
    text, inner = map(record.get, _LOGURU)
    if text[:1] == b'"' and (members := read_members(inner)) is not None:
        return _Record([(_LOGURU[0], text), *members], record.raw)
    return record


def _take_message(record: _Record) -> bytes:
    """Take the message as a JSON string. Without a known name, the whole record is the message, as text."""
    texts = [key for key in _MESSAGES if key in record.values and record.values[key][:1] == b'"']
    key = next((key for key in texts if record.get(key) != b'""'), texts[0] if texts else None)
    if key is not None:
        return record.take(key)
    if text := read_bytes(record.get(_JOURNAL)):
        return _take_bytes(record, text)
    whole = cut_middle(record.raw.strip().decode(errors="replace"), limits.MESSAGE)
    return quote(whole.encode())


def _take_time(record: _Record) -> bytes | None:
    """Take the first time that can be read, as a JSON string. If it is finer than 1 ns, the record keeps it, too."""
    for key in _TIMES:
        for value in record.all(key):
            try:
                moment, exact = _read_moment(value)
            except ValueError:
                continue
            if exact:
                record.drop((key, value))
            return b'"' + format_nanoseconds(moment).encode() + b'"'
    return None


def _read_moment(value: bytes) -> tuple[int, bool]:
    if value[:1] == b"{":
        return read_object(value)
    text = _read_text(value)
    return read_number(value.decode(errors="replace")) if text is None else read_time(text)


def _take_data(record: _Record) -> bytes | None:
    """Write what is left of the record as data; None if nothing is left.

    Members of the record's own data come first. A member of the record that has the name of one of them goes into the
    member "extra". So does an earlier value of a member that the record has more than once.
    """
    rest = record.rest()
    own = record.get(_DATA)
    if [key for key, _ in rest] == [_DATA]:
        return own  # as sent, whatever its type
    members = read_members(own) if own else None
    if members is None:
        members = []
    else:
        record.take(_DATA)
        rest = record.rest()
    if not rest and not own:
        return None
    names = {key for key, _ in members}
    same = [member for member in rest if member[0] in names]
    rest = [member for member in rest if member[0] not in names]
    if len(last := dict(rest)) < len(rest):
        same += _earlier(rest)
        rest = list(last.items())
    members += rest
    if same:
        members.append((_free_name("extra", {key for key, _ in members}), _join(same)))
    return _join(members)


def _earlier(members: list[Member]) -> list[Member]:
    """Give the members that a later member of the same name replaces."""
    earlier, later = list[Member](), set[bytes]()
    for member in reversed(members):
        if member[0] in later:
            earlier.append(member)
        later.add(member[0])
    return earlier[::-1]


def _take_bytes(record: _Record, text: bytes) -> bytes:
    """Take the bytes as the message. Bytes that are not UTF-8 stay in the record as well."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return quote(text.decode(errors="replace").encode())
    record.take(_JOURNAL)
    return quote(text)


def _free_name(name: str, names: set[bytes]) -> bytes:
    while _key(name) in names:
        name = f"_{name}"
    return _key(name)


def _read_text(value: bytes) -> str | None:
    """Read a JSON string; None if the value is something else, or cannot be read."""
    if value[:1] != b'"':
        return None
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _join(members: list[Member]) -> bytes:
    return b"{" + b",".join(b"%b:%b" % member for member in members) + b"}"


def _key(name: str) -> bytes:
    return f'"{name}"'.encode()


_MESSAGES, _TIMES, _CALL, _LOGURU = (tuple(map(_key, names)) for names in (MESSAGES, TIMES, CALL, LOGURU))
_SHORT = tuple(map(_key, SHORT))  # a member of this name becomes the field of the event, if its value is valid there
_MESSAGE, _DATA, _JOURNAL, _OTLP = _key("message"), _key("data"), _key(JOURNAL), _key(OTLP)
