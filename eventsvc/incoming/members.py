"""Read the members of a JSON object as the bytes that were sent, so that no digit and no character changes."""

from __future__ import annotations

import re

from eventsvc.incoming.split import DEPTH, NESTED, STRING, TOKEN

Member = tuple[bytes, bytes]  # the name, as a JSON string, and the value; both as sent

_SPACE = rb"[ \t\r\n]*+"
_BEGIN = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(" + STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_NEXT = re.compile(_SPACE + rb"([,}])" + _SPACE)
# PERF: one match takes a whole member, unless its value is nested deep. All quantifiers are possessive.
_VALUE = STRING + rb'|[^ \t\r\n,{}\[\]"]++|[{\[]' + NESTED + rb"[}\]]"
_MEMBER = re.compile(_NAME.pattern + rb"(" + _VALUE + rb")" + _NEXT.pattern, re.DOTALL)


def read_members(raw: bytes) -> list[Member] | None:
    """Give the members of a JSON object in one pass; None if the text is not an object.

    Values are not checked, except that brackets and quotes come in pairs.
    """
    begin = _BEGIN.match(raw)
    if begin is None:
        return None
    place, members = begin.end(), list[Member]()
    if raw[place : place + 1] == b"}" and not raw[place + 1 :].strip():
        return members
    after = b","
    while after == b",":
        if whole := _MEMBER.match(raw, place):
            name, value, after = whole.groups()
            place = whole.end()
        elif found := _read_deep(raw, place):
            name, value, after, place = found
        else:
            return None
        members.append((name, value))
    return members if place == len(raw) else None


def _read_deep(raw: bytes, place: int) -> tuple[bytes, bytes, bytes, int] | None:
    """Read a member whose value is an object or an array, nested deep; give what follows, and the place after that."""
    name = _NAME.match(raw, place)
    end = _end_of_value(raw, name.end()) if name else 0
    following = _NEXT.match(raw, end) if end else None
    if name is None or following is None:
        return None
    return name[1], raw[name.end() : end], following[1], following.end()


def _end_of_value(raw: bytes, begin: int) -> int:
    """Find the end of the object or array that begins here; 0 if none begins, or none ends."""
    if raw[begin : begin + 1] not in {b"{", b"["}:
        return 0
    depth = 0
    for token in TOKEN.finditer(raw, begin):
        if token[0] == b'"':
            return 0
        depth += DEPTH.get(token[0], 0)
        if depth == 0:
            return token.end()
    return 0
