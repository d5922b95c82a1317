"""Make anything a program logs into something the service takes."""

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


def clean_text(text: str, longest: int) -> str:
    """Replace what is no character, and cut to a length; never empty."""
    text = _NO_CHARACTERS.sub("\ufffd", text)
    return (text if len(text) <= longest else f"{text[: longest - 1]}…") or "(empty)"


def clean_value(data: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """Make JSON of a dict; of one that is too large, a short text of each value, as many as there is room for."""
    cleaner = _Cleaner()
    cleaned = {_clean_key(key): cleaner.clean(value, limits.DATA_DEPTH - 1) for key, value in data.items()}
    if len(msgspec.json.encode(cleaned)) <= most_bytes:
        return cleaned
    room = most_bytes - 100
    kept: dict[str, Any] = {"truncated": True}
    for key, value in cleaned.items():
        short = value if isinstance(value, int | float | None) else clean_text(str(value), _TEXT_WHEN_TOO_LARGE)
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
        text = str(value)
        return clean_text(text, limits.DATA_BYTES) if text else ""

    def _some(self, items: Iterable[Any]) -> Iterable[Any]:
        return islice(items, max(0, self._left))


def _clean_number(value: float) -> Any:
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else "a number beyond float64"
    return float(value) if math.isfinite(value) else str(value)


def _clean_key(key: Any) -> str:
    return _NO_CHARACTERS.sub("\ufffd", str(key))
