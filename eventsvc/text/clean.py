"""Make anything that is logged into something the service stores: characters, lengths, sizes."""

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
_TEXT_WHEN_TOO_LARGE = 1_000  # characters of each value that are kept then


def clean_characters(text: str) -> str:
    """Replace NUL and halves of surrogate pairs, which cannot be stored, by U+FFFD."""
    return _NO_CHARACTERS.sub("\ufffd", text)


def clean_text(text: str, longest: int) -> str:
    """Replace what is no character, and cut the end off what is too long; never empty."""
    text = clean_characters(text)
    return (text if len(text) <= longest else f"{text[: longest - 1]}…") or "(empty)"


def clean_message(text: str, longest: int) -> str:
    """Replace what is no character, and cut the middle out of what is too long; never empty.

    Most messages tell at their beginning what they are, and a traceback tells at its end what went wrong.
    """
    return cut_middle(clean_characters(text), longest) or "(empty)"


def cut_middle(text: str, longest: int) -> str:
    """Keep the beginning and the end of a text that is too long, and say how much is missing."""
    if len(text) <= longest:
        return text
    note = f" … [{len(text) - longest:,} of {len(text):,} characters cut out] … "
    kept = longest - len(note) - 4  # the number grows by the note's own length, and so perhaps by a few digits
    note = f" … [{len(text) - kept:,} of {len(text):,} characters cut out] … "
    return f"{text[: kept - kept // 2]}{note}{text[len(text) - kept // 2 :]}"


def clean_value(data: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """Make JSON of a dict; of one that is too large, a short text of each value, as many as there is room for."""
    cleaner = _Cleaner()
    cleaned = {_clean_key(key): cleaner.clean(value, limits.DATA_DEPTH - 1) for key, value in data.items()}
    if len(msgspec.json.encode(cleaned)) <= most_bytes:
        return cleaned
    room = most_bytes - 100
    kept: dict[str, Any] = {"truncated": True}
    for key, value in cleaned.items():
        short = value if isinstance(value, int | float | None) else cut_middle(str(value), _TEXT_WHEN_TOO_LARGE)
        room -= len(msgspec.json.encode({key: short}))
        if room < 0:
            break
        kept[key] = short
    return kept


class _Cleaner:
    """Walks one value; it stops after so many parts, for a list may hold itself."""

    def __init__(self) -> None:
        self._left = _MOST_PARTS

    def clean(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return "…"
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _clean_number(value)
        if isinstance(value, dict) and depth > 0:
            return {_clean_key(key): self.clean(item, depth - 1) for key, item in self._some(value.items())}
        if isinstance(value, list | tuple | set | frozenset) and depth > 0:
            return [self.clean(item, depth - 1) for item in self._some(value)]
        return cut_middle(clean_characters(_write(value)), limits.DATA_BYTES)

    def _some(self, items: Iterable[Any]) -> Iterable[Any]:
        return islice(items, max(0, self._left))


def _clean_number(value: float) -> Any:
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else "a number beyond float64"
    return float(value) if math.isfinite(value) else str(value)


def _clean_key(key: Any) -> str:
    return clean_characters(_write(key))


def _write(value: Any) -> str:
    """Give the text of any object, though it may fail to give its own."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (whatever its author did wrong)
        return f"<{type(value).__name__} without text>"
