"""Sanitize any logged value so that the service can store it: its characters, lengths and sizes."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from eventsvc import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_CHARACTERS = re.compile("[\0\ud800-\udfff]")
_LARGEST = 1.7976931348623157e308
_MOST_PARTS = 10_000
_TEXT_WHEN_TOO_LARGE = 1_000  # characters kept of each value if data is too large


def sanitize_characters(text: str) -> str:
    """Replace NUL and halves of surrogate pairs, which cannot be stored, by U+FFFD."""
    return _NO_CHARACTERS.sub("\ufffd", text)


def sanitize_text(text: str, longest: int) -> str:
    """Replace characters that cannot be stored, and cut off the end of a long text. The result is never empty."""
    text = sanitize_characters(text)
    return (text if len(text) <= longest else f"{text[: longest - 1]}…") or "(empty)"


def sanitize_message(text: str, longest: int) -> str:
    """Replace characters that cannot be stored, and cut out the middle of a long text. The result is never empty.

    The beginning of a message usually says what it is, and the end of a traceback says what went wrong.
    """
    return cut_middle(sanitize_characters(text), longest) or "(empty)"


def cut_middle(text: str, longest: int) -> str:
    """Keep the beginning and the end of a text that is too long, with a note of how much is cut out."""
    if len(text) <= longest:
        return text
    note = f" … [{len(text) - longest:,} of {len(text):,} characters cut out] … "
    kept = longest - len(note) - 4  # the note's own length adds to the number, which may get a few more digits
    note = f" … [{len(text) - kept:,} of {len(text):,} characters cut out] … "
    return f"{text[: kept - kept // 2]}{note}{text[len(text) - kept // 2 :]}"


def sanitize_value(data: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """Convert a dict to JSON values. If it is too large, keep a short text of each value, as long as there is room."""
    walk = _Sanitizing()
    sanitized = {_sanitize_key(key): walk.sanitize(value, limits.DATA_DEPTH - 1) for key, value in data.items()}
    if len(msgspec.json.encode(sanitized)) <= most_bytes:
        return sanitized
    room = most_bytes - 100
    kept: dict[str, Any] = {"truncated": True}
    for key, value in sanitized.items():
        short = value if isinstance(value, int | float | None) else cut_middle(str(value), _TEXT_WHEN_TOO_LARGE)
        room -= len(msgspec.json.encode({key: short}))
        if room < 0:
            break
        kept[key] = short
    return kept


class _Sanitizing:
    """Walks one value. It stops after a number of parts, because a list may contain itself."""

    def __init__(self) -> None:
        self._left = _MOST_PARTS

    def sanitize(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return "…"
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _sanitize_number(value)
        if isinstance(value, dict) and depth > 0:
            return {_sanitize_key(key): self.sanitize(item, depth - 1) for key, item in self._some(value.items())}
        if isinstance(value, list | tuple | set | frozenset) and depth > 0:
            return [self.sanitize(item, depth - 1) for item in self._some(value)]
        return cut_middle(sanitize_characters(_write(value)), limits.DATA_BYTES)

    def _some(self, items: Iterable[Any]) -> Iterable[Any]:
        return islice(items, max(0, self._left))


def _sanitize_number(value: float) -> Any:
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else "a number beyond float64"
    return float(value) if math.isfinite(value) else str(value)


def _sanitize_key(key: Any) -> str:
    return sanitize_characters(_write(key))


def _write(value: Any) -> str:
    """Give the text of any object, even if its own ``__str__`` fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (the object's own code may raise anything)
        return f"<{type(value).__name__} without text>"
