"""How text and data become index terms: the same code for indexing and for querying.

Three codings, each exact in the sense that looking a coded needle up among coded terms gives what a substring,
prefix, equality or range test on the values themselves would give.

- ``fold``: what ``ct`` and ``sw`` compare.
- ``trigrams``: a message as overlapping triples of characters. A substring of three characters or more is a
  phrase of triples; a shorter one is the beginning of some triple.
- ``data_terms``: a JSON value as one term a leaf: path, NUL, type letter, ``:``, value. No text holds a NUL, so
  path and value cannot run into each other.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from eventsvc.text import case

# ---------------------------------------------------------------------------------------------- folding


class _Table(dict[int, int]):
    def __missing__(self, point: int) -> int:
        return point


_LOWER = _Table(case.read_table())

# PERF: where every Unicode version since 14 agrees with simple lower-casing, Python's own lower() is ten times as
# fast as a table: Latin, Greek (but capital sigma, whose lower case depends on its neighbours), Cyrillic,
# punctuation, CJK, Hangul, emoji. Capital I with dot is left out: Python makes two characters of it.
_AGREED = re.compile(
    "[\0-\u012f\u0131-\u0377\u0384-\u038a\u038e-\u03a1\u03a4-\u052f\u2000-\u20ff\u2190-\u23ff\u2500-\u2bff"
    "\u3000-\u9fff\uac00-\ud7a3\uff00-\uffef\U0001f000-\U0001faff]*"
)


def fold(text: str) -> str:
    """Lower-case by code point, as ``lower(x COLLATE "pg_c_utf8")`` of PostgreSQL 18 does; keeps the length."""
    if text.isascii() or _AGREED.fullmatch(text):
        return text.lower()
    return text.translate(_LOWER)


# --------------------------------------------------------------------------------------------- trigrams

_START, _END, _ESCAPE = "\x02", "\x03", "\x04"

# All that Java's Character.isWhitespace takes for white space, where the index's tokenizer would cut.
_SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2008\u2009\u200a\u2028\u2029\u205f\u3000"
)
# One character's code never begins another's, so a prefix of characters is a prefix of codes.
_CODES = {" ": "\x01"} | {
    char: _ESCAPE + chr(ord("A") + place) for place, char in enumerate("\x01" + _START + _END + _ESCAPE + _SPACES)
}

_ESCAPED = re.compile(f"[\x01-\x04{_SPACES}]")


def trigrams(message: str) -> str:
    """Code a message for the index field ``terms.message``."""
    folded = fold(message)
    if _ESCAPED.search(folded):
        codes = [_START, *[_CODES.get(char, char) for char in folded], _END, _END]
        return " ".join([a + b + c for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)])
    text = f"{_START}{folded.replace(' ', chr(1))}{_END}{_END}"
    return " ".join([text[place : place + 3] for place in range(len(text) - 2)])


def needle_trigrams(needle: str, *, at_start: bool = False) -> tuple[bool, str]:
    """Code what is looked for in ``terms.message``.

    Returns:
        (True, a phrase of whole trigrams) or, for needles too short for one, (False, how a trigram begins).
    """
    codes = [_CODES.get(char, char) for char in fold(needle)]
    if at_start:
        codes.insert(0, _START)
    if len(codes) < 3:  # noqa: PLR2004  (a trigram)
        return False, "".join(codes)
    return True, " ".join([a + b + c for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)])


# --------------------------------------------------------------------------------------------- data

LONGEST_TEXT = 4096
"""Characters of a string that are kept in its terms as they are; at most 16,384 bytes, half of what Lucene takes."""
LONGEST_NEEDLE = 256
"""Characters that ``ct`` can look for in a long string: how far neighbouring windows overlap."""
_LONGEST_PATH = 96

EXISTS = "e:"
NULL = "z:"


def data_path(keys: Iterable[str]) -> str:
    """Code a path for the beginning of a term; NUL included."""
    return _label(".".join([_escape_key(key) for key in keys]))


def _escape_key(key: str) -> str:
    if "\\" in key or "." in key:
        return key.replace("\\", "\\\\").replace(".", "\\.")
    return key


def _label(path: str) -> str:
    # "\#" comes out of no key, since a backslash is only ever followed by another or by a dot.
    return path + "\0" if len(path) <= _LONGEST_PATH else f"\\#{_digest(path)}\0"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def text_term(text: str) -> str:
    """A string itself; a very long one keeps its beginning, so that it sorts among others as it should."""
    if len(text) <= LONGEST_TEXT:
        return "s:" + text
    return f"s:{text[:LONGEST_TEXT]}\0{_digest(text)}"


def number_term(number: float) -> str:
    """A number as hexadecimal digits that sort as numbers do."""
    bits: int = struct.unpack(">Q", struct.pack(">d", number + 0.0))[0]  # -0.0 + 0.0 is 0.0
    return f"n:{bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63:016x}"


def boolean_term(value: bool) -> str:  # noqa: FBT001
    """Code a boolean."""
    return "b:true" if value else "b:false"


def as_number(value: float) -> float:
    """A JSON number as float64, however many digits it has."""
    try:
        return float(value)
    except OverflowError:  # the log holds none that large
        return float("inf") if value > 0 else float("-inf")


def data_terms(value: Any) -> list[str]:
    """Code an event's data for the index field ``terms.data``.

    Arrays have no terms of their own: their elements, at any depth of nesting, are values of the array's path.
    """
    terms: dict[str, None] = {}
    for item in unwrap(value):
        if isinstance(item, dict):
            _add_object(terms, "", item)
    return list(terms)


def unwrap(value: Any) -> Iterable[Any]:
    """The values that stand for value: the elements of an array, of arrays in it, and so on; else value itself."""
    if not isinstance(value, list):
        return (value,)
    if not any(isinstance(item, list) for item in value):
        return value
    return [inner for item in value for inner in unwrap(item)]


def _add_object(terms: dict[str, None], prefix: str, members: dict[str, Any]) -> None:
    for key, value in members.items():
        path = prefix + _escape_key(key)
        label = _label(path)
        for item in unwrap(value):
            terms[label + EXISTS] = None
            if isinstance(item, str):
                _add_text(terms, label, item)
            elif isinstance(item, dict):
                _add_object(terms, path + ".", item)
            else:
                terms[label + _scalar_term(item)] = None


def _scalar_term(value: float | bool | None) -> str:  # noqa: FBT001
    if value is None:
        return NULL
    if isinstance(value, bool):
        return boolean_term(value)
    return number_term(as_number(value))


def _add_text(terms: dict[str, None], label: str, text: str) -> None:
    terms[label + text_term(text)] = None
    folded = fold(text)
    terms[f"{label}f:{folded[:LONGEST_TEXT]}"] = None
    # The rest of a long string: windows that overlap, so that every needle lies whole in one of them.
    for place in range(LONGEST_TEXT - LONGEST_NEEDLE, len(folded) - LONGEST_NEEDLE, LONGEST_TEXT - LONGEST_NEEDLE):
        terms[f"{label}f+{folded[place : place + LONGEST_TEXT]}"] = None
