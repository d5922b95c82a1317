"""Texts that senders encode: the fields of a form, and journalctl's arrays of bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

from eventsvc.incoming.names import MESSAGES

if TYPE_CHECKING:
    from eventsvc.incoming.members import Member

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_FORM_TEXT = rb"(?:[A-Za-z0-9_.~*+-]|%[0-9A-Fa-f]{2})"
_FORM_FIELD = _FORM_TEXT + rb"++=" + _FORM_TEXT + rb"*+"
_FORM = re.compile(_FORM_FIELD + rb"(?:&" + _FORM_FIELD + rb")*+\r?")
_MESSAGES = {b'"%b"' % name.encode() for name in MESSAGES}


def read_fields(raw: bytes) -> list[Member] | None:
    """Read the fields of a form; None if the line is something else, or no field has the name of a message."""
    if _FORM.fullmatch(raw) is None:
        return None
    fields = [field.partition(b"=") for field in raw.rstrip(b"\r").split(b"&")]
    members = [(quote(_decode(name)), quote(_decode(value))) for name, _, value in fields]
    return members if any(name in _MESSAGES for name, _ in members) else None


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def read_bytes(value: bytes) -> bytes:
    """Read an array of bytes as journalctl writes it; nothing if the value is something else."""
    if value[:1] != b"[":
        return b""
    try:
        return bytes(msgspec.json.decode(value, type=list[int]))
    except (msgspec.MsgspecError, ValueError):
        return b""


def quote(text: bytes) -> bytes:
    """Write bytes as a JSON string; bytes that are not UTF-8 stay as they are, so that the parser finds them."""
    return b'"' + _SPECIAL.sub(lambda found: b"\\u%04x" % found[0][0], text) + b'"'
