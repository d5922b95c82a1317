"""Split a stream of bytes into events with their lines, in bounded memory: NDJSON, an array, or objects in a row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from eventsvc.errors import Fault, InvalidBody, InvalidEvents
from eventsvc.incoming.names import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 256 * 1024
BOM = b"\xef\xbb\xbf"  # Windows programs write these bytes before UTF-8; they mean nothing


class Reader(Protocol):
    """A stream of bytes."""

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end."""


Item = tuple[int, "bytes | InvalidEvents"]


def _read_blocks(reader: Reader) -> Iterator[bytes]:
    begin = reader.read(_BLOCK)
    while 0 < len(begin) < len(BOM) and (more := reader.read(_BLOCK)):
        begin += more
    if begin := begin.removeprefix(BOM):
        yield begin
    while block := reader.read(_BLOCK):
        yield block


def split_lines(reader: Reader, longest: int) -> Iterator[Item]:
    """Give each line that is not blank with its number, from 1. A line that is too long is given as its error."""
    number = 0
    begun: list[bytes] = []  # pieces of an unfinished line; no more than needed to know that the line is too long
    length = 0
    for block in _read_blocks(reader):
        lines = block.split(b"\n")
        if length <= longest:
            begun.append(lines[0])
            length += len(lines[0])
        if len(lines) == 1:
            continue
        lines[0] = b"".join(begun)
        begun = [lines.pop()]
        length = len(begun[0])
        for line in lines:
            number += 1
            if len(line) > longest:
                yield number, _too_long(longest)
            elif line and not line.isspace():
                yield number, line
    if length > longest:
        yield number + 1, _too_long(longest)
    elif (rest := b"".join(begun)) and not rest.isspace():
        yield number + 1, rest


def _too_long(longest: int) -> InvalidEvents:
    return InvalidEvents((Fault("", f"is longer than {longest:,} bytes"),))


_REST = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'  # of a string, up to its closing quote
STRING = rb'"' + _REST + rb'"'
_FLAT = rb'(?:[^"{}\[\]]++|' + STRING + rb")*+"
NESTED = _FLAT
for _ in range(3):
    NESTED = rb'(?:[^"{}\[\]]++|' + STRING + rb"|[{\[]" + NESTED + rb"[}\]])*+"
# PERF: one match takes most events whole, in C. All quantifiers are possessive, so the match never backtracks.
_OBJECT = re.compile(rb"[ \t\r\n]*+(\{" + NESTED + rb"\})", re.DOTALL)
_ELEMENT = re.compile(_OBJECT.pattern + rb"[ \t\r\n]*+([,\]])", re.DOTALL)
# The tokens of the slow way: a whole string, the quote that begins a string, or a structural character.
TOKEN = re.compile(STRING + rb'|["\[\]{},]', re.DOTALL)
_INSIDE = re.compile(_REST, re.DOTALL)


# An object whose first member is an array of records.
ENVELOPE = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+"(?:%b)"[ \t\r\n]*+:[ \t\r\n]*+\[' % "|".join(ARRAYS).encode())


def split_json(reader: Reader, longest: int, *, envelope: bool = False) -> Iterator[Item]:
    """Give each element of a JSON array, or each object of a sequence, with its position, from 1.

    The events are not checked here; the parser finds out whether they are JSON. An event that is too long is given as
    its error.

    Args:
        reader: the JSON text.
        longest: bytes that an event may have.
        envelope: the text is an object whose only member is an array of events: give the elements of this array.

    Raises:
        InvalidBody: the array does not end, or something follows the array.
    """
    text = _Text(reader, longest)
    if text.begins_array(envelope=envelope):
        yield from enumerate(text.read_elements(), 1)
    else:
        yield from enumerate(text.read_objects(), 1)


class _Text:
    """JSON text that is read only as far as the current event needs."""

    def __init__(self, reader: Reader, longest: int) -> None:
        self._blocks, self._longest = _read_blocks(reader), longest
        self._buffer = bytearray()
        self._place = 0  # where the current event begins
        self._seen = 0  # how far the search for its end has come; nothing is read twice
        self._inside, self._depth = False, 0  # whether inside a string, and the number of open brackets
        self._dropped = False  # whether the event's beginning was dropped, because the event is too long
        self._array = False
        self._after = b""  # what follows the array

    def begins_array(self, *, envelope: bool) -> bool:
        """Tell whether an array begins, and step into it."""
        while not self._buffer.lstrip() and self._read_more():
            self._buffer = self._buffer.lstrip()
        begin = ENVELOPE.match(self._buffer) if envelope else None
        self._array = begin is not None or self._buffer[:1] == b"["
        self._place = begin.end() if begin else int(self._array)
        self._after = b"}" if begin else b""
        return self._array

    def read_elements(self) -> Iterator[bytes | InvalidEvents]:
        """Give the elements of the array, to the end of the text."""
        number = 0
        last = False
        while not last:
            number += 1
            element, last = self._next_element(number)
            if last and number == 1 and isinstance(element, bytes) and not element.strip():
                number = 0  # an empty array
            else:
                yield element
        self._finish_array(number)

    def _finish_array(self, number: int) -> None:
        """Read to the end of the text, where only the end of the envelope may follow the array."""
        after = b""
        while True:
            after = (after + self._buffer[self._place :].strip())[:2]
            self._place = len(self._buffer)
            if after not in {b"", self._after}:
                raise InvalidBody(f"not JSON: something follows the array of {number:,} events")
            if not self._read_more():
                break
        if after != self._after:
            raise InvalidBody(f"not JSON: the body ends after the array of {number:,} events, inside an object")

    def read_objects(self) -> Iterator[bytes | InvalidEvents]:
        """Give the objects; a rest at the end is given like an object."""
        more = True
        while more:
            whole = _OBJECT.match(self._buffer, self._place)
            if whole:
                self._place = whole.end()
                yield self._check_length(whole[1])
                continue
            more = (end := self._find_end()) >= 0
            rest = self._take(end if more else len(self._buffer))
            if isinstance(rest, InvalidEvents) or rest.strip():
                yield rest

    def _next_element(self, number: int) -> tuple[bytes | InvalidEvents, bool]:
        """Give the next element, and whether it is the last."""
        whole = _ELEMENT.match(self._buffer, self._place)
        if whole:
            self._place = whole.end()
            return self._check_length(whole[1]), whole[2] == b"]"
        if (end := self._find_end()) < 0:
            raise InvalidBody(f"not JSON: the body ends inside event {number:,} of the array")
        element = self._take(end)
        self._place = end + 1
        return element, self._buffer[end : end + 1] == b"]"

    def _check_length(self, event: bytes) -> bytes | InvalidEvents:
        return event if len(event) <= self._longest else _too_long(self._longest)

    def _take(self, end: int) -> bytes | InvalidEvents:
        event = _too_long(self._longest) if self._dropped else bytes(self._buffer[self._place : end])
        self._place = end
        return self._check_length(event) if isinstance(event, bytes) else event

    def _read_more(self) -> bool:
        """Read a block, and drop the part of the buffer that is no longer needed."""
        if self._seen - self._place > self._longest:
            self._place, self._dropped = self._seen, True
        del self._buffer[: self._place]
        self._seen -= self._place
        self._place = 0
        block = next(self._blocks, b"")
        self._buffer += block
        return bool(block)

    def _find_end(self) -> int:
        """Read on until the end of the event; -1 if the text ends before."""
        self._seen, self._inside, self._depth, self._dropped = self._place, False, 0, False
        while (end := self._look()) < 0:
            if not self._read_more():
                return -1
        return end

    def _look(self) -> int:
        """Search the unread part of the buffer for the end of the event; -1 if the end is not there yet."""
        if self._inside and not self._leave_string():
            return -1
        for token in TOKEN.finditer(self._buffer, self._seen):
            text = token[0]
            if text == b'"':
                self._inside, self._seen = True, token.end()
                self._leave_string()
                return -1
            if self._depth == 0 and self._array and text in _ENDS:
                return token.start()
            self._depth += DEPTH.get(text, 0)
            if self._depth <= 0 and not self._array and text in _CLOSING:
                return token.end()
        self._seen = len(self._buffer)
        return -1

    def _leave_string(self) -> bool:
        """Skip the rest of a string; False if its end has not been read yet."""
        rest = _INSIDE.match(self._buffer, self._seen)
        self._seen = rest.end() if rest else self._seen
        if self._buffer[self._seen : self._seen + 1] != b'"':
            return False
        self._inside = False
        self._seen += 1
        return True


_ENDS, _CLOSING = (b",", b"]"), (b"]", b"}")
DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
