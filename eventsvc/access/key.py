"""The text of a key: ``ev_``, 30 random characters, 6 of checksum; a person's typing mistake shows without a look-up.

A secret scanner finds keys by the pattern, and tells them from other text by the checksum.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECKSUM = 30, 6  # characters: 178 bits, and 32 bits of CRC-32
_PREFIX = "ev_"
_ID = len(_PREFIX) + 8  # characters of the text that name the key; 131 secret bits are left
PATTERN = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")


def make_key() -> str:
    """Make a new key."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return f"{_PREFIX}{body}{_checksum(body)}"


def is_whole(text: str) -> bool:
    """Tell whether the text can be a key at all: its form and checksum are right."""
    if not PATTERN.fullmatch(text):
        return False
    body = text.removeprefix(_PREFIX)
    return _checksum(body[:_RANDOM]) == body[_RANDOM:]


def digest(text: str) -> bytes:
    """Give what is stored of a key. One round of SHA-256 is enough: nobody can try 178 random bits."""
    return hashlib.sha256(text.encode()).digest()


def key_id(text: str) -> str:
    """Give the readable beginning, under which people find a key in lists."""
    return text[:_ID]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
