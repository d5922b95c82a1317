"""What text looks like to people: the same whatever the letter case, the way it is composed, and its colours.

PostgreSQL does the same in its function ``event_fold`` (migration 0040), with the tables of Unicode 16. Python's own
tables are those of its release, so composition comes from unicodedata2, and case has the few letters added below.
"""

from __future__ import annotations

import re

from unicodedata2 import normalize

# Control sequences of terminals (ECMA-48, 5.4): colours above all.
_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# Letters with a lower case that came after Unicode 14, which Python 3.11 has.
_LATER = {0x1C89: "\u1c8a", 0xA7CB: "\u0264", 0xA7CC: "\ua7cd", 0xA7DA: "\ua7db", 0xA7DC: "\u019b"}
_LATER |= {point: chr(point + 32) for point in range(0x10D50, 0x10D66)}
# The i of Turkish with and without a dot, in either case, is an i: no other folding makes the four one letter.
_DOTTED = {0x130: "i", 0x131: "i"}
_OURS = str.maketrans(_LATER | _DOTTED)
_HAS_OURS = re.compile(f"[{''.join(map(chr, _LATER | _DOTTED))}]")


def fold(text: str) -> str:
    """Give text as ``ct`` and ``sw`` compare it: no control sequences, composed (NFC), full case folding."""
    if "\x1b" in text:
        text = _CONTROLS.sub("", text)
    if text.isascii():
        return text.lower()
    text = normalize("NFC", text)
    if _HAS_OURS.search(text):
        text = text.translate(_OURS)
    return str(normalize("NFC", text.casefold()))
