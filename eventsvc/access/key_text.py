"""The text of a key: ``ev_``, 30 random characters, and 6 characters of checksum.

The checksum reveals a typing mistake without a look-up. A secret scanner finds keys by the pattern, and uses the
checksum to tell keys from other text.
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
_ID = len(_PREFIX) + 8  # characters that serve as the key's id; the other characters hold 131 secret bits
_PATTERN = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")


def make_key() -> str:
    """Make a new key."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return f"{_PREFIX}{body}{_checksum(body)}"


def is_whole(text: str) -> bool:
    """Tell whether a text has the form of a key and the right checksum."""
    if not _PATTERN.fullmatch(text):
        return False
    body = text.removeprefix(_PREFIX)
    return _checksum(body[:_RANDOM]) == body[_RANDOM:]


def digest(text: str) -> bytes:
    """Hash a key for storage. One round of SHA-256 is enough, because nobody can try 178 random bits."""
    return hashlib.sha256(text.encode()).digest()


def key_id(text: str) -> str:
    """Give the id of a key: its readable beginning, which lists show."""
    return text[:_ID]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
