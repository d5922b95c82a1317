"""Read JSON and keep its faults, so that the slow pass (faults.py) can report all of them with their places."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from eventsvc import limits
from eventsvc.errors import Fault, InvalidBody, InvalidEvents
from eventsvc.text import numbers

# PERF: possessive quantifiers, and a token for a string that does not end: each character is read once.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_DIGITS = 310  # an integer with more digits is beyond float64
_SAFE_DEPTH = 500  # the standard library's parser recurses
_BEYOND = "is beyond float64 (up to 1.8e308)"


class Wrong:
    """A number that is not allowed. ``load`` puts it into the tree, and faults.py reports it with its JSON pointer.

    Attributes:
        text: the number as sent.
        detail: what is wrong.
    """

    def __init__(self, text: str, detail: str) -> None:
        self.text, self.detail = text, detail


class Pairs(dict[str, Any]):
    """A JSON object that remembers which keys were given more than once."""

    twice: tuple[str, ...] = ()


def decode(raw: bytes) -> str:
    """Decode UTF-8.

    Raises:
        InvalidBody: the bytes are not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise InvalidBody(f"not valid UTF-8: byte 0x{raw[exc.start]:02x} at offset {exc.start}") from exc


def load(raw: bytes) -> Any:
    """Read JSON and keep all faults: objects become Pairs, numbers that are not allowed become Wrong.

    Raises:
        InvalidBody: the text is not JSON.
        InvalidEvents: the text is nested too deep to be read.
    """
    text = decode(raw)
    if _depth(text) > _SAFE_DEPTH:
        raise InvalidEvents((Fault("", f"is nested deeper than {limits.DATA_DEPTH} levels"),))
    try:
        return _loads(text)
    except json.JSONDecodeError as exc:
        hint = _several(text) if exc.msg == "Extra data" and text.startswith("{", exc.pos) else ""
        raise InvalidBody(f"not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}{hint}") from exc


def _several(text: str) -> str:
    lines = "" if "\n" in text.strip() else " (curl: --data-binary keeps the ends of lines, --data removes them)"
    return f"; another object follows: send one event a line as application/x-ndjson, or an array{lines}"


def _loads(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=_pairs,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=lambda name: Wrong(name, f"{name} is not a JSON number"),
    )


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= _SAFE_DEPTH:
        return 0
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == '"':
            break  # a string that does not end; all the rest lies inside it
    return deepest


def _pairs(pairs: list[tuple[str, Any]]) -> Pairs:
    result = Pairs(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        result.twice = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return result


def _integer(text: str) -> int | Wrong:
    if len(text) > _DIGITS:
        digits = len(text.lstrip("-"))
        return Wrong(text, f"is an integer of {digits:,} digits; numbers must fit float64 (up to 1.8e308)")
    value = int(text)
    try:
        float(value)
    except OverflowError:
        return Wrong(text, _BEYOND)
    return value


def _float(text: str) -> Decimal | Wrong:
    try:
        return numbers.read_float(text)
    except numbers.OutOfRange as exc:
        return Wrong(text, str(exc))
