"""How text and data become index terms: the same code for indexing and for querying."""

from __future__ import annotations

def fold(text: str) -> str:
    """Lower-case by code point, as ``lower(x COLLATE "pg_c_utf8")`` does (Unicode simple case mapping)."""
    if text.isascii():
        return text.lower()
    return "".join("i" if char == "İ" else char.lower() for char in text)
