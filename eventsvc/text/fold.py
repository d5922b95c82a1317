"""Fold text: remove differences of letter case, of composition, and of terminal colours.

The SQL function ``event_fold`` (migration 0040) does the same with the tables of Unicode 16. Python's own tables depend
on its release. So the composition comes from unicodedata2, and the case of a few letters is added below.
"""

from __future__ import annotations

import re

from unicodedata2 import normalize

# Control sequences of terminals (ECMA-48, 5.4): colours above all.
_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# Letters that got a lower case after Unicode 14, the version of Python 3.11.
_LATER = {0x1C89: "\u1c8a", 0xA7CB: "\u0264", 0xA7CC: "\ua7cd", 0xA7DA: "\ua7db", 0xA7DC: "\u019b"}
_LATER |= {point: chr(point + 32) for point in range(0x10D50, 0x10D66)}
# Turkish has an i with and without a dot. All four letters become i, because full case folding keeps them apart.
_DOTTED = {0x130: "i", 0x131: "i"}
_OURS = str.maketrans(_LATER | _DOTTED)
_HAS_OURS = re.compile(f"[{''.join(map(chr, _LATER | _DOTTED))}]")


def fold(text: str) -> str:
    """Fold text for ``ct`` and ``sw``: remove control sequences, compose (NFC), and apply full case folding."""
    if "\x1b" in text:
        text = _CONTROLS.sub("", text)
    if text.isascii():
        return text.lower()
    text = normalize("NFC", text)
    if _HAS_OURS.search(text):
        text = text.translate(_OURS)
    return str(normalize("NFC", text.casefold()))
