"""How text and data become index terms: the same code for indexing and for querying.

Each coding is exact: looking a coded needle up among coded terms gives what a substring, prefix, equality or range
test on the values themselves would give.

- ``triples``: texts as overlapping triples of characters. A substring of three characters or more is a phrase of
  triples; a shorter one is the beginning of some triple. There is a NUL before each text and two after the last; no
  text holds one, so a NUL and what follows is a text's start, and no needle reaches from one text into the next.
- ``code_data``: a JSON value as a few terms a leaf: path, NUL, type, value. A path is its keys joined by dots,
  whether the dots are steps or part of a key. Every value has terms of the path ``ANYWHERE`` as well, and those in an
  array of the path with their place in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from eventsvc.text import numbers
from eventsvc.text.letters import fold
from eventsvc.text.numbers import Number

_TRIPLE = 3
_EDGE, _SPACE, _ESCAPE = "\0", "\x01", "\x04"

# All that Java's Character.isWhitespace takes for white space, where the index's tokenizer would cut.
_SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2008\u2009\u200a\u2028\u2029\u205f\u3000"
)
# One character's code never begins another's, so a prefix of characters is a prefix of codes.
_CODES = {" ": _SPACE} | {
    char: _ESCAPE + chr(ord("A") + place) for place, char in enumerate(_SPACE + _ESCAPE + _SPACES)
}
_ESCAPED = re.compile(f"[{_SPACE}{_ESCAPE}{_SPACES}]")


def triples(texts: Iterable[str]) -> str:
    """Code folded texts for the index fields of triples."""
    text = f"{_EDGE}{(_EDGE + _EDGE).join(texts)}{_EDGE}{_EDGE}"
    if _ESCAPED.search(text):
        return _join([_CODES.get(char, char) for char in text])
    text = text.replace(" ", _SPACE)
    if not text.isascii():
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
    coded.add(value, None, placed=False)
    return coded


class DataTerms:
    """The terms of one event's data.

    Attributes:
        terms: for the index field ``terms.data``, each once.
        texts: its strings and numbers, folded, each once.
        spelled: some number would look different if it were read as a float and written again.
    """

    def __init__(self) -> None:
        self.terms: dict[str, None] = {}
        self.texts: dict[str, None] = {}
        self.spelled = False

    def add(self, value: Any, path: str | None, *, placed: bool) -> None:
        """Add a value at a path; None for data itself.

        Args:
            value: the value.
            path: its keys joined by dots, and a place in an array.
            placed: the path says a place in an array; there is at most one in a term.
        """
        if type(value) is list:
            self._add_elements(value, path, placed=placed)
            return
        terms, start = self.terms, None if path is None else label(path)
        if start is not None:
            terms[start + EXISTS] = None
        if type(value) is dict:
            before = "" if path is None else path + "."
            for key, inner in value.items():
                self.add(inner, before + key, placed=placed)
        elif type(value) is str:
            self._add_text(value, start, placed=placed)
        else:
            self._add_scalar(value, start, placed=placed)

    def _add_elements(self, values: list[Any], path: str | None, *, placed: bool) -> None:
        for item in values:
            self.add(item, path, placed=placed)
        if not placed:
            before = "" if path is None else path + "."
            for place, item in enumerate(values[:MOST_PLACES]):
                self.add(item, f"{before}{place}", placed=True)

    def _add_scalar(self, value: Number | bool | None, start: str | None, *, placed: bool) -> None:  # noqa: FBT001
        if value is None or isinstance(value, bool):
            term = NULL if value is None else boolean_term(value)
        else:
            term = numbers.term(value)
            text = numbers.plain(value)
            self.texts[text] = None
            self.spelled |= type(value) is not int and not _is_floats_own(text)
        if start is not None:
            self.terms[start + term] = None
        if not placed:
            self.terms[ANYWHERE + term] = None

    def _add_text(self, text: str, start: str | None, *, placed: bool) -> None:
        folded = fold(text)
        itself = folded == text and len(text) <= LONGEST_TEXT
        term = FOLDED_ITSELF + text if itself else text_term(text)
        if not placed:
            self.terms[ANYWHERE + term] = None
            self.texts[folded] = None
        if start is None:
            return
        self.terms[start + term] = None
        if not itself:
            _add_folded(self.terms, start, folded)


def _add_folded(terms: dict[str, None], start: str, folded: str) -> None:
    terms[f"{start}{FOLDED}{folded[:LONGEST_TEXT]}"] = None
    # The rest of a long string: windows that overlap, so that every needle lies whole in one of them.
    step = LONGEST_TEXT - LONGEST_NEEDLE
    for place in range(step, len(folded) - LONGEST_NEEDLE, step):
        terms[f"{start}{FOLDED_ON}{folded[place : place + LONGEST_TEXT]}"] = None


def _is_floats_own(text: str) -> bool:
    """Tell whether a decimal is written as the float nearest to it is."""
    return len(text) <= _FLOAT_DIGITS and (text[-1] != "0" or text[-2] == ".")
