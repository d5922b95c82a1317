"""Code text and data as index terms. Indexing and querying use the same code.

Each coding is exact: a look-up of a coded needle among coded terms gives the same result as a substring, prefix,
equality or range test of the values themselves.

- ``trigrams`` codes texts as overlapping trigrams of characters. A substring of three characters or more is a phrase of
  trigrams; a shorter substring is the beginning of some trigram. An edge stands before each text, and two edges stand
  after the last text. No text contains an edge. So a needle that begins with an edge matches the start of a text only,
  and no needle matches across two texts.
- ``code_data`` codes a JSON value as a few terms for each leaf: path, NUL, type, value. A path is its keys joined by
  dots, whether a dot is a step or part of a key. Every value also has terms with the path ``ANYWHERE``. A value in an
  array also has terms with its index in the array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from eventsvc.text import numbers
from eventsvc.text.fold import fold

_TRIGRAM = 3
# No folded text contains an upper-case ASCII letter; and JSON need not escape letters, unlike control characters.
_EDGE, _SPACE, _ESCAPE = "E", "S", "X"

# The white space of Java's Character.isWhitespace, where the tokenizer of the index cuts.
_SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2008\u2009\u200a\u2028\u2029\u205f\u3000"
)
# No character's code is the beginning of another code, so a prefix of characters is a prefix of codes.
_CODES = {" ": _SPACE} | {char: _ESCAPE + chr(ord("A") + place) for place, char in enumerate(_SPACES)}
_ESCAPED = re.compile(f"[{_SPACES}]")


def trigrams(texts: Iterable[str]) -> str:
    """Code folded texts for the index fields of trigrams."""
    text = f"{_EDGE}{(_EDGE + _EDGE).join(texts)}{_EDGE}{_EDGE}"
    # PERF: isprintable is twice as fast as a search for white space.
    plain = text.isascii() and text.isprintable()
    if not plain and _ESCAPED.search(text):
        return _join([_CODES.get(char, char) for char in text])
    text = text.replace(" ", _SPACE)
    if not plain and not text.isascii():
        return _join(text)
    # PERF: slices of bytes are twenty times as fast as joins of text.
    raw, size = text.encode(), len(text) - 2
    coded = bytearray(b" ") * (4 * size)
    coded[0::4], coded[1::4], coded[2::4] = raw[:size], raw[1:-1], raw[2:]
    return coded[:-1].decode()


def needle_trigrams(needle: str, *, at_start: bool = False) -> tuple[bool, str]:
    """Code the needle of a search in a field of trigrams.

    Returns:
        (True, a phrase of whole trigrams); for a needle too short for a trigram, (False, the beginning of a trigram).
    """
    codes = [_CODES.get(char, char) for char in (_EDGE if at_start else "") + fold(needle)]
    return (False, "".join(codes)) if len(codes) < _TRIGRAM else (True, _join(codes))


def _join(codes: Sequence[str]) -> str:
    return " ".join([a + b + c for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)])


# --------------------------------------------------------------------------------------------- data

LONGEST_TEXT = 4096
"""Characters of a string that its term holds: at most 16,384 bytes, half of Lucene's limit."""
LONGEST_NEEDLE = 256
"""The longest needle of ``ct`` in a long string: neighbouring windows overlap by so many characters."""
MOST_PLACES = 16
"""Elements of an array that a query can find by their index."""
_LONGEST_PATH = 96
_FLOAT_DIGITS = 16  # 15 digits and the point

EXISTS, NULL, TRUE, FALSE = "e:", "z:", "b:true", "b:false"
# A string that folding does not change has one term, "f=". Any other string has a term of itself, "s:", a term of its
# folded text, "f:", and, if it is long, terms for windows of the folded text, "f+". So ct searches "f?", sw searches
# "f=" and "f:", and eq and the orders search "f=" and "s:".
FOLDED_ITSELF, FOLDED, FOLDED_ON, UNFOLDED = "f=", "f:", "f+", "s:"

# No path begins with "\*" or "\#", because a backslash in a key is doubled.
ANYWHERE = "\\*\0"
"""The label that every value has, whatever its path."""


def _label(path: str) -> str:
    """Code a path as the beginning of a term, NUL included."""
    escaped = path.replace("\\", "\\\\") if "\\" in path else path
    return escaped + "\0" if len(escaped) <= _LONGEST_PATH else f"\\#{_digest(escaped)}\0"


def data_path(keys: Iterable[str]) -> str:
    """Code the keys of a path in a query; no keys mean any path."""
    path = tuple(keys)
    return _label(".".join(path)) if path else ANYWHERE


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def text_term(text: str) -> str:
    """Code a string. The term of a very long string keeps its beginning, so that the terms sort like the strings."""
    if len(text) > LONGEST_TEXT:
        return f"{UNFOLDED}{text[:LONGEST_TEXT]}\0{_digest(text)}"
    return (FOLDED_ITSELF if fold(text) == text else UNFOLDED) + text


def boolean_term(value: bool) -> str:  # noqa: FBT001
    """Code a boolean."""
    return TRUE if value else FALSE


def value_of(term: str) -> str | None:
    """Give the value of a term without its label, coded as in ``log.read.counts``.

    Returns:
        None for a term that holds no value: "the path exists", or a folded text.

    Raises:
        ValueError: the term holds only the beginning of a string.
    """
    kind, rest = term[:2], term[2:]
    match kind:
        case "n:":
            return kind + numbers.read_term(term)
        case "b:" | "z:":
            return term
        case "f=" | "s:" if len(rest) <= LONGEST_TEXT:
            return f"s:{rest}"
        case "s:":
            raise ValueError("a string is longer than its term")
        case _:
            return None


def term_of(value: str) -> str:
    """Give the term of a value that ``value_of`` gave."""
    match value[0]:
        case "s":
            return text_term(value[2:])
        case "n":
            return numbers.term(Decimal(value[2:]))
        case _:
            return value


def code_data(value: Any) -> DataTerms:
    """Code an event's data.

    Arrays have no terms of their own. Their elements, at any depth of nesting, are values of the array's path.

    Args:
        value: the value that ``Event.parsed_data`` gives.
    """
    coded = DataTerms()
    coded.add(value, None, False)
    coded.terms, coded.texts = list(dict.fromkeys(coded.terms)), list(dict.fromkeys(coded.texts))
    return coded


class DataTerms:
    """The terms of one event's data; ``code_data`` makes them.

    Attributes:
        terms: the terms of the index field ``terms.data``, each once.
        texts: the folded strings, and the digits of the numbers, each once.
        spelled: whether data contains a number that would change if it were read as a float and written again. The
            document then keeps data as text, too (see index/mapping.py).
    """

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.texts: list[str] = []
        self.spelled = False

    # PERF: this runs for every value of every event that is indexed.
    def add(self, value: Any, path: str | None, placed: bool) -> None:  # noqa: FBT001
        """Add a value at a path; None for data itself.

        Args:
            value: the value.
            path: the keys joined by dots, perhaps with an index into an array.
            placed: whether the path holds an index into an array; a term holds at most one.
        """
        kind = type(value)
        if kind is str:
            self._add_text(value, path, placed)
        elif kind is dict:
            if path is not None:
                self.terms.append((_kept_starts if len(path) <= _SHORT else _starts)(path)[1])
            before = "" if path is None else path + "."
            for key, inner in value.items():
                self.add(inner, before + key, placed)
        elif kind is list:
            self._add_elements(value, path, placed)
        elif kind is int:
            self._add_number(str(value), path, placed)
        elif kind is Decimal:
            text = numbers.plain(value)
            self.spelled = self.spelled or not _is_floats_own(text)
            self._add_number(text, path, placed)
        else:
            self._add_term(NULL if value is None else boolean_term(value), path, placed)

    def _add_elements(self, values: list[Any], path: str | None, placed: bool) -> None:  # noqa: FBT001
        for item in values:
            self.add(item, path, placed)
        if not placed:
            before = "" if path is None else path + "."
            for place, item in enumerate(values[:MOST_PLACES]):
                self.add(item, f"{before}{place}", True)

    def _add_number(self, text: str, path: str | None, placed: bool) -> None:  # noqa: FBT001
        self.texts.append(text)
        self._add_term(numbers.plain_term(text), path, placed)

    def _add_term(self, term: str, path: str | None, placed: bool) -> None:  # noqa: FBT001
        if path is not None:
            start, exists = (_kept_starts if len(path) <= _SHORT else _starts)(path)
            self.terms += (exists, start + term)
        if not placed:
            self.terms.append(ANYWHERE + term)

    def _add_text(self, text: str, path: str | None, placed: bool) -> None:  # noqa: FBT001
        short = len(text) <= _SHORT
        if not placed:
            term, folded = _kept_anywhere(text) if short else _text_anywhere(text)
            self.terms.append(term)
            self.texts.append(folded)
        if path is not None:
            self.terms += _kept_at(path, text) if short and len(path) <= _SHORT else _text_at(path, text)


def _starts(path: str) -> tuple[str, str]:
    """Give the beginning of a path's terms, and the term that says that the path exists."""
    start = _label(path)
    return start, start + EXISTS


def _text_anywhere(text: str) -> tuple[str, str]:
    """Give the term of a string at any path, and the folded string."""
    return ANYWHERE + text_term(text), fold(text)


def _text_at(path: str, text: str) -> list[str]:
    """Give the terms of a string at a path."""
    start, exists = _starts(path)
    term = text_term(text)
    found = [exists, start + term]
    if not term.startswith(FOLDED_ITSELF):
        folded = fold(text)
        found.append(f"{start}{FOLDED}{folded[:LONGEST_TEXT]}")
        # The rest of a long string is coded as overlapping windows, so that every needle lies whole in some window.
        step = LONGEST_TEXT - LONGEST_NEEDLE
        places = range(step, len(folded) - LONGEST_NEEDLE, step)
        found += [f"{start}{FOLDED_ON}{folded[place : place + LONGEST_TEXT]}" for place in places]
    return found


# PERF: keys and short strings repeat. Long strings rarely do, and would take much memory.
_SHORT = 32  # characters
_kept_starts, _kept_anywhere, _kept_at = (lru_cache(maxsize=8192)(each) for each in (_starts, _text_anywhere, _text_at))


def _is_floats_own(text: str) -> bool:
    """Tell whether a decimal is written exactly like the nearest float."""
    return len(text) <= _FLOAT_DIGITS and (text[-1] != "0" or text[-2:] == ".0")
