"""How text and data become index terms: the same code for indexing and for querying.

Each coding is exact: looking a coded needle up among coded terms gives what a substring, prefix, equality or range
test on the values themselves would give.

- ``triples``: texts as overlapping triples of characters. A substring of three characters or more is a phrase of
  triples; a shorter one is the beginning of some triple. There is an edge before each text and two after the last; no
  text holds one, so an edge and what follows is a text's start, and no needle reaches from one text into the next.
- ``code_data``: a JSON value as a few terms a leaf: path, NUL, type, value. A path is its keys joined by dots,
  whether the dots are steps or part of a key. Every value has terms of the path ``ANYWHERE`` as well, and those in an
  array of the path with their place in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from eventsvc.text import numbers
from eventsvc.text.letters import fold

_TRIPLE = 3
# No folded text holds an upper-case ASCII letter. JSON, unlike control characters, takes these as they are.
_EDGE, _SPACE, _ESCAPE = "E", "S", "X"

# All that Java's Character.isWhitespace takes for white space, where the index's tokenizer would cut.
_SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2008\u2009\u200a\u2028\u2029\u205f\u3000"
)
# One character's code never begins another's, so a prefix of characters is a prefix of codes.
_CODES = {" ": _SPACE} | {char: _ESCAPE + chr(ord("A") + place) for place, char in enumerate(_SPACES)}
_ESCAPED = re.compile(f"[{_SPACES}]")


def triples(texts: Iterable[str]) -> str:
    """Code folded texts for the index fields of triples."""
    text = f"{_EDGE}{(_EDGE + _EDGE).join(texts)}{_EDGE}{_EDGE}"
    # PERF: isprintable takes half as long as a search for white space.
    plain = text.isascii() and text.isprintable()
    if not plain and _ESCAPED.search(text):
        return _join([_CODES.get(char, char) for char in text])
    text = text.replace(" ", _SPACE)
    if not plain and not text.isascii():
        return _join(text)
    # PERF: slices of bytes are twenty times as fast as joining pieces of text.
    raw, size = text.encode(), len(text) - 2
    coded = bytearray(b" ") * (4 * size)
    coded[0::4], coded[1::4], coded[2::4] = raw[:size], raw[1:-1], raw[2:]
    return coded[:-1].decode()


def needle_triples(needle: str, *, at_start: bool = False) -> tuple[bool, str]:
    """Code what is looked for in a field of triples.

    Returns:
        (True, a phrase of whole triples) or, for needles too short for one, (False, how a triple begins).
    """
    codes = [_CODES.get(char, char) for char in (_EDGE if at_start else "") + fold(needle)]
    return (False, "".join(codes)) if len(codes) < _TRIPLE else (True, _join(codes))


def _join(codes: Sequence[str]) -> str:
    return " ".join([a + b + c for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)])


# --------------------------------------------------------------------------------------------- data

LONGEST_TEXT = 4096
"""Characters of a string that are kept in its terms as they are; at most 16,384 bytes, half of what Lucene takes."""
LONGEST_NEEDLE = 256
"""Characters that ``ct`` can look for in a long string: how far neighbouring windows overlap."""
MOST_PLACES = 16
"""Elements of an array that can be found by their place in it."""
_LONGEST_PATH = 96
_FLOAT_DIGITS = 16  # 15 of them, and the point

EXISTS, NULL, TRUE, FALSE = "e:", "z:", "b:true", "b:false"
# A string that folding leaves as it is has one term, "f="; another has itself, "s:", and what it is folded to, "f:",
# and, if it is long, windows of that, "f+". So ct looks at "f?", sw at "f=" and "f:", eq and order at "f=" and "s:".
FOLDED_ITSELF, FOLDED, FOLDED_ON, UNFOLDED = "f=", "f:", "f+", "s:"

# "\*" and "\#" are no joined keys' beginning: a backslash in a key is doubled.
ANYWHERE = "\\*\0"
"""The label of every value, whatever its path."""


def label(path: str) -> str:
    """Code a path for the beginning of a term; NUL included."""
    escaped = path.replace("\\", "\\\\") if "\\" in path else path
    return escaped + "\0" if len(escaped) <= _LONGEST_PATH else f"\\#{_digest(escaped)}\0"


def data_path(keys: Iterable[str]) -> str:
    """Code the keys of a query's path; none stand for any path."""
    path = tuple(keys)
    return label(".".join(path)) if path else ANYWHERE


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def text_term(text: str) -> str:
    """Code a string itself; a very long one keeps its beginning, so that it sorts among others as it should."""
    if len(text) > LONGEST_TEXT:
        return f"{UNFOLDED}{text[:LONGEST_TEXT]}\0{_digest(text)}"
    return (FOLDED_ITSELF if fold(text) == text else UNFOLDED) + text


def boolean_term(value: bool) -> str:  # noqa: FBT001
    """Code a boolean."""
    return TRUE if value else FALSE


def value_of(term: str) -> str | None:
    """Give the value that a term without its label stands for, as ``log.read.counts`` codes values.

    Returns:
        None for a term that only says that there is a value, or what it is folded to.

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

    Arrays have no terms of their own: their elements, at any depth of nesting, are values of the array's path.

    Args:
        value: as ``Event.parsed_data`` gives it.
    """
    coded = DataTerms()
    coded.add(value, None, False)
    coded.terms, coded.texts = list(dict.fromkeys(coded.terms)), list(dict.fromkeys(coded.texts))
    return coded


class DataTerms:
    """The terms of one event's data; ``code_data`` makes them.

    Attributes:
        terms: for the index field ``terms.data``, each once.
        texts: its strings and numbers, folded, each once.
        spelled: some number would look different if it were read as a float and written again.
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
            path: its keys joined by dots, and a place in an array.
            placed: the path says a place in an array; there is at most one in a term.
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
    """Give how a path's terms begin, and the term that says that the path is there."""
    start = label(path)
    return start, start + EXISTS


def _text_anywhere(text: str) -> tuple[str, str]:
    """Give the term of a string whatever its path, and the string folded."""
    return ANYWHERE + text_term(text), fold(text)


def _text_at(path: str, text: str) -> list[str]:
    """Give the terms of a string at a path."""
    start, exists = _starts(path)
    term = text_term(text)
    found = [exists, start + term]
    if not term.startswith(FOLDED_ITSELF):
        folded = fold(text)
        found.append(f"{start}{FOLDED}{folded[:LONGEST_TEXT]}")
        # The rest of a long string: windows that overlap, so that every needle lies whole in one of them.
        step = LONGEST_TEXT - LONGEST_NEEDLE
        places = range(step, len(folded) - LONGEST_NEEDLE, step)
        found += [f"{start}{FOLDED_ON}{folded[place : place + LONGEST_TEXT]}" for place in places]
    return found


# PERF: keys and short strings come again and again. Long ones are rare, and would take up much memory.
_SHORT = 32  # characters
_kept_starts, _kept_anywhere, _kept_at = (lru_cache(maxsize=8192)(each) for each in (_starts, _text_anywhere, _text_at))


def _is_floats_own(text: str) -> bool:
    """Tell whether a decimal is written as the float nearest to it is."""
    return len(text) <= _FLOAT_DIGITS and (text[-1] != "0" or text[-2:] == ".0")
