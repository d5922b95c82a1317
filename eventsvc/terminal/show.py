"""Write events for people: one line for each event, with colours and marked matches on a terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

_RESET = "\x1b[0m"
_STYLES = {"dim": "\x1b[2m", "bold": "\x1b[1m", "red": "\x1b[31m", "yellow": "\x1b[33m", "cyan": "\x1b[36m"}
_MARK, _UNMARK = "\x1b[7m", "\x1b[27m"
# SECURITY: a terminal would execute these characters of an event.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_NEEDLE = re.compile(r"""(?:\b(?:ct|sw|eq)\s+|^\s*)(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""")


@dataclass(frozen=True, slots=True)
class Style:
    """The form of a line.

    Attributes:
        colour: True to use colours.
        fields: the fields of the line, which tabs separate; () for the usual line.
        template: a template such as "{createdAt} {message}"; "" for none.
        marks: a pattern of the texts that are marked in messages.
        time: the field with the time at the beginning of the line.
    """

    colour: bool = False
    fields: tuple[str, ...] = ()
    template: str = ""
    marks: re.Pattern[str] | None = None
    time: str = "createdAt"


def wants_colour(out: IO[str]) -> bool:
    """Tell whether to use colours: ``out`` is a terminal, and NO_COLOR is not set (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def needles(query: str) -> re.Pattern[str] | None:
    """Make a pattern of the texts that a query looks for, to mark them; None if the query has no text."""
    found = [re.sub(r"\\(.)", r"\1", one or other) for one, other in _NEEDLE.findall(query)]
    texts = sorted({text for text in found if text}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)), re.IGNORECASE) if texts else None


def line(event: dict[str, Any], style: Style) -> str:
    """Write one event as a line."""
    if style.template:
        return _fill(style.template, event)
    if style.fields:
        return "\t".join(safe(_text(_lookup(event, name))) for name in style.fields)
    message = safe(str(event.get("message", "")))
    if style.colour and style.marks is not None:
        message = style.marks.sub(lambda match: f"{_MARK}{match[0]}{_UNMARK}", message)
    data = event.get("data")
    parts = [
        paint(str(event.get(style.time, "")), "dim", style),
        paint(f"{event.get('environment', '')}/{event.get('component', '')}", "cyan", style),
        safe(str(event.get("email", ""))),
        message,
        paint("" if data in (None, {}) else safe(json.dumps(data, ensure_ascii=False)), "dim", style),
    ]
    return " ".join(part for part in parts if part)


def paint(text: str, name: str, style: Style) -> str:
    """Colour a text, if the style has colours."""
    return f"{_STYLES[name]}{text}{_RESET}" if style.colour and text else text


def safe(text: str) -> str:
    """Replace the characters of a text that a terminal would execute. A line end becomes ⏎."""
    return (
        _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", _ANSI.sub("", text)).replace("\n", "⏎").replace("\t", " ")
    )


def _lookup(event: dict[str, Any], name: str) -> Any:
    """Give the value of a field. The name data.path.to.leaf names a value in data."""
    value: Any = event
    for key in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _fill(template: str, event: dict[str, Any]) -> str:
    return re.sub(r"\{([\w.@$-]+)\}", lambda match: safe(_text(_lookup(event, match[1]))), template)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextmanager
def pager() -> Iterator[IO[str]]:
    """Give the output: the user's pager if stdin and stdout are a terminal, else stdout."""
    command = os.environ.get("PAGER", "less -FRX" if shutil.which("less") else "")
    if not (command and sys.stdout.isatty() and sys.stdin.isatty()):
        yield sys.stdout
        return
    with subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, text=True) as process:  # noqa: S602  (PAGER is the user's own)
        assert process.stdin is not None  # noqa: S101
        try:
            yield process.stdin
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def table(rows: Iterable[tuple[str, ...]], *, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Align the columns of a table. The columns with the numbers in ``right`` are aligned to the right."""
    cells = [tuple(map(safe, row)) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    for row in cells:
        shown = (
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(shown).rstrip()


def bar(count: float, most: float, width: int) -> str:
    """Draw a bar whose length is the ratio of a count to the highest count, in eighths of a character."""
    eighths = round(8 * width * count / most) if most else 0
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
