"""Show the piece of a query that an error is about, with a caret under the fault."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

from eventsvc.errors import QueryError

_WIDEST = 100  # characters of the line that are shown
_BEFORE = 60  # characters shown before the fault, at most


def render_excerpt(error: QueryError) -> str:
    """Write two lines: the line of the query that holds the fault, and a caret for each character of the fault."""
    start = error.text.rfind("\n", 0, error.offset) + 1
    end = error.text.find("\n", start)
    line = error.text[start : end if end >= 0 else len(error.text)].rstrip("\r")
    place = min(error.offset - start, len(line))
    first = max(0, place - _BEFORE) if len(line) > _WIDEST else 0
    shown = line[first : first + _WIDEST]
    left, right = "…" if first else "", "…" if first + _WIDEST < len(line) else ""
    # A character without width, or one that moves other characters, is shown as one plain character.
    visible = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown.replace("\t", " "))
    width = max(1, min(error.width, len(shown) - (place - first)))
    before, under = visible[: place - first], visible[place - first :][:width]
    return f"{left}{visible}{right}\n{' ' * (len(left) + _columns(before))}{'^' * max(1, _columns(under))}"


def _columns(text: str) -> int:
    """Count the columns that text takes in a terminal: CJK and emoji take two columns, accents none."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)
