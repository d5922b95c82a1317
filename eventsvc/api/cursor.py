"""Cursors: each says where the next page of a search begins.

A cursor belongs to the request whose page it follows: with another query or order, or with a key that sees another part
of the log, it is refused. A cursor holds no secret, so anybody may compute one.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping

from eventsvc.api.parameters import choice
from eventsvc.errors import InvalidParameter
from eventsvc.paging import Position

_CURSOR = struct.Struct(">Bqqqq")  # version, now, erasure epoch, time, seq
_CURSOR_VERSION = 1
_DIGEST = 9  # bytes; with the rest a multiple of 3, so base64 needs no padding
# The times that a position may have: createdAt in ms, of the years 1 to 9999; occurredAt in ns, as the column can hold.
_TIMES = {"createdAt": range(-62_135_596_800_000, 253_402_300_800_000), "occurredAt": range(2**63)}
_NOWS = range(200_000_000_000_000)  # ms since 1970, up to the year 8307: far from the ends of Python's calendar


def write_cursor(content: tuple[int, int, int, int], given: Mapping[str, str], seen: str) -> str:
    """Write a cursor.

    Args:
        content: the "now" of the first page in ms, the erasure epoch, and the position after which the page begins.
        given: the parameters of the request.
        seen: the part of the log that the key sees.
    """
    packed = _CURSOR.pack(_CURSOR_VERSION, *content)
    return urlsafe_b64encode(packed + _digest(packed, given, seen)).decode()


def read_cursor(given: Mapping[str, str], seen: str) -> tuple[int, Position] | None:
    """Read a cursor.

    Returns:
        The "now" of the first page in ms, and the position after which the next page begins; None without a cursor.

    Raises:
        InvalidParameter: the text is not a cursor, or the cursor belongs to another request or another key.
    """
    if "cursor" not in given:
        return None
    try:
        raw = urlsafe_b64decode(given["cursor"].encode("ascii"))
        content, digest = raw[: _CURSOR.size], raw[_CURSOR.size :]
        version, now, _epoch, moment, seq = _CURSOR.unpack(content)
    except (UnicodeEncodeError, Base64Error, struct.error) as exc:
        raise InvalidParameter("cursor", "it is not one of ours: take it from a Link header, unchanged") from exc
    # The digest is no secret: whoever computes it may put any numbers here.
    possible = seq >= 0 and moment in _TIMES[read_order(given)] and now in _NOWS
    if version != _CURSOR_VERSION or not possible or digest != _digest(content, given, seen):
        raise InvalidParameter("cursor", "it belongs to another query: start again without a cursor")
    return now, (moment, seq)


def read_order(given: Mapping[str, str]) -> str:
    """Read the field that events are ordered by."""
    return choice(given, "orderBy", tuple(_TIMES))


def _digest(content: bytes, given: Mapping[str, str], seen: str) -> bytes:
    """Make a digest of everything that decides which events a page has, and in which order."""
    by_creation = () if read_order(given) == "createdAt" else (given["orderBy"],)
    frozen = (f"asOf {given['asOf']}",) if "asOf" in given else ()
    bound = (
        given.get("q", "").strip(),
        given.get("tz", "UTC"),
        given.get("order", "desc"),
        seen,
        *by_creation,
        *frozen,
    )
    return hashlib.blake2b(content + repr(bound).encode(), digest_size=_DIGEST, person=b"eventsvc cursor").digest()
