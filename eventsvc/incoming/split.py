"""A stream of bytes → events, one by one, each with its line: NDJSON and JSON arrays, in bounded memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from eventsvc.errors import Fault, InvalidBody, InvalidEvents

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 256 * 1024
_WHITESPACE = b" \t\r\n"


class Reader(Protocol):
    """What is split."""

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end."""


Item = tuple[int, "bytes | InvalidEvents"]


def split_lines(reader: Reader, longest: int) -> Iterator[Item]:
    """Give each line that is not blank with its number, from 1; a line that is too long as the error it is."""
    number = 0
    rest = b""
    skipping = False  # inside a line that is too long
    while block := reader.read(_BLOCK):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            if skipping or len(line) > longest:
                skipping = False
                yield number, _too_long(longest)
            elif line and not line.isspace():
                yield number, line
        if skipping or len(rest) > longest:
            skipping, rest = True, b""
    if skipping:
        yield number + 1, _too_long(longest)
    elif rest and not rest.isspace():
        yield number + 1, rest


def _too_long(longest: int) -> InvalidEvents:
    return InvalidEvents((Fault("", f"is longer than {longest:,} bytes"),))


_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+"
_NESTED = _FLAT
for _ in range(3):
    _NESTED = rb'(?:[^"{}\[\]]++|' + _STRING + rb"|[{\[]" + _NESTED + rb"[}\]])*+"
# PERF: one match takes most events whole, in C. Possessive throughout, so it never backtracks.
_OBJECT = re.compile(rb"[ \t\r\n]*+(\{" + _NESTED + rb"\})[ \t\r\n]*+([,\]])", re.DOTALL)
# What the fast way leaves: a whole string, the beginning of one, or a structural character.
_TOKEN = re.compile(_STRING + rb'|"|[\[\]{},]', re.DOTALL)


def split_array(reader: Reader, longest: int) -> Iterator[Item]:
    """Give each element of a JSON array with its position, from 1.

    Elements are only told apart here; whether they are JSON is seen when they are parsed.

    Raises:
        InvalidBody: the array does not end, or something follows it.
    """
    elements = _Elements(reader, longest)
    yield from enumerate(elements, 1)
    elements.check_end()


class _Elements:
    """The elements of an array, as text; it has been opened already."""

    def __init__(self, reader: Reader, longest: int) -> None:
        self._reader, self._longest = reader, longest
        self._buffer, self._place = b"", 0
        self._number = 0
        self._skip_bracket()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            element, last = self._next()
            if last and self._number == 0 and not element.strip(_WHITESPACE):
                return  # an empty array
            self._number += 1
            yield element
            if last:
                return

    def check_end(self) -> None:
        """Make sure that nothing but space follows."""
        rest = self._buffer[self._place :]
        while rest or (rest := self._reader.read(_BLOCK)):
            if not rest.isspace():
                raise InvalidBody(f"not JSON: something follows the array of {self._number:,} events")
            rest = b""

    def _skip_bracket(self) -> None:
        while not self._buffer and (block := self._reader.read(_BLOCK)):
            self._buffer = block.lstrip(_WHITESPACE)
        self._place = 1

    def _next(self) -> tuple[bytes, bool]:
        """Give the text of the next element, and whether it is the last."""
        whole = _OBJECT.match(self._buffer, self._place)
        if whole:
            self._place = whole.end()
            return whole[1], whole[2] == b"]"
        while (end := _find_end(self._buffer, self._place)) < 0:
            self._read_more()
        element = self._buffer[self._place : end]
        self._place = end + 1
        return element, self._buffer[end] == _CLOSING

    def _read_more(self) -> None:
        rest = self._buffer[self._place :]
        if len(rest) > self._longest:
            raise InvalidBody(f"event {self._number + 1:,} of the array is longer than {self._longest:,} bytes")
        block = self._reader.read(_BLOCK)
        if not block:
            raise InvalidBody(f"not JSON: the body ends inside event {self._number + 1:,} of the array")
        self._buffer, self._place = rest + block, 0


_CLOSING = ord("]")


def _find_end(buffer: bytes, start: int) -> int:
    """Find the comma or bracket that ends an element; -1 if it has not come yet."""
    depth = 0
    for token in _TOKEN.finditer(buffer, start):
        text = token[0]
        if text == b'"':
            return -1  # a string that goes on in the next block
        if text in {b"[", b"{"}:
            depth += 1
        elif text in {b"]", b"}"}:
            if depth == 0 and text == b"]":
                return token.start()
            depth -= 1
        elif text == b"," and depth == 0:
            return token.start()
    return -1
