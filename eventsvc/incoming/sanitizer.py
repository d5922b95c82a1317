"""Sanitize events that would be refused for their characters, lengths or numbers, and mark them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from eventsvc import limits
from eventsvc.errors import Fault, InvalidBody, InvalidEvents, InvalidInput
from eventsvc.incoming import lenient_json
from eventsvc.text.numbers import encode
from eventsvc.text.sanitize import cut_middle, sanitize_characters, sanitize_message, sanitize_text, sanitize_value

if TYPE_CHECKING:
    from eventsvc.event import NewEvent
    from eventsvc.incoming.parser import Parser

_MARK = "sanitized"  # the member of data that lists the faults
_MARKS = 5  # faults in the list
_LONGEST_NUMBER = 400  # characters of a number that becomes text


class Sanitizer:
    """Parses events with another parser. An event that this parser refuses is sanitized and parsed again.

    Attributes:
        sanitized: the number of events that were sanitized.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self.sanitized = 0

    def parse(self, raw: bytes) -> NewEvent:
        """Parse one JSON object. The member "sanitized" of its data lists the faults that were removed.

        Raises:
            InvalidBody: the text is not JSON.
            InvalidEvents: a fault cannot be removed: a wrong address, or a missing or unknown field.
        """
        try:
            return self._parser.parse(raw)
        except (InvalidBody, InvalidEvents) as exc:
            return self.sanitize(raw, exc)

    def sanitize(self, raw: bytes, refusal: InvalidBody | InvalidEvents) -> NewEvent:
        """Parse one JSON object that is refused as it is. Its data lists the faults of the refusal."""
        new = self._parser.parse(_sanitize_event(raw, refusal))
        self.sanitized += 1
        return new


def _sanitize_event(raw: bytes, refusal: InvalidInput) -> bytes:
    """Write a sanitized event with a mark; raise the refusal if a change of the text cannot help."""
    event = lenient_json.load(raw.decode(errors="replace").encode())
    if not isinstance(event, lenient_json.Pairs) or event.twice:
        raise refusal
    sanitized: dict[str, Any] = {sanitize_characters(name): _sanitize(value, 0) for name, value in event.items()}
    for name in ("environment", "component"):
        if isinstance(sanitized.get(name), str):
            sanitized[name] = sanitize_text(sanitized[name], limits.NAME)
    if isinstance(sanitized.get("message"), str):
        sanitized["message"] = sanitize_message(sanitized["message"], limits.MESSAGE)
    found = refusal.faults if isinstance(refusal, InvalidEvents) else (Fault("", str(refusal)),)
    if any(one.pointer == "/occurredAt" for one in found):
        del sanitized["occurredAt"]
    sanitized["data"] = _mark(sanitized.get("data"), found)
    return encode(sanitized)


def _mark(data: Any, found: tuple[Fault, ...]) -> dict[str, Any]:
    """Add the list of faults to data, in the words of a refusal. Data that is no object becomes the member "value"."""
    members: dict[str, Any] = data if isinstance(data, dict) else {} if data is None else {"value": _sanitize(data, 1)}
    name = _MARK
    while name in members:
        name = f"_{name}"
    mark = {name: [{"pointer": one.pointer, "detail": one.detail} for one in found[:_MARKS]]}
    if len(encode(members | mark)) <= limits.DATA_BYTES:
        return members | mark
    room = limits.DATA_BYTES - len(encode(mark))
    if list(members) == ["value"]:
        text = members["value"] if isinstance(members["value"], str) else encode(members["value"]).decode()
        return {"value": cut_middle(text, room // 7)} | mark  # JSON writes some characters as six
    return sanitize_value(members, room) | mark


def _sanitize(value: Any, depth: int) -> Any:
    """Replace halves of surrogates and NUL; write impossible numbers as text, and deep values as JSON text."""
    if isinstance(value, str):
        return sanitize_characters(value)
    if isinstance(value, lenient_json.Wrong):
        return cut_middle(value.text, _LONGEST_NUMBER)
    if not isinstance(value, dict | list):
        return value
    if depth == limits.DATA_DEPTH:
        return sanitize_characters(json.dumps(value, ensure_ascii=False, default=_write_number))
    if isinstance(value, list):
        return [_sanitize(item, depth + 1) for item in value]
    return {sanitize_characters(key): _sanitize(item, depth + 1) for key, item in value.items()}


def _write_number(number: Decimal | lenient_json.Wrong) -> float | str:
    """Give a number in a form that JSON can write without losing digits: a float, or text if need be."""
    if isinstance(number, lenient_json.Wrong):
        return number.text
    return float(number) if Decimal(repr(float(number))) == number else str(number)
