"""The status line of `eventsvc dev`, on pseudo-terminals and without one."""

from __future__ import annotations

import io
import os
import pty
import select
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from eventsvc.dev import status
from eventsvc.dev.status import StatusLine, describe

PAGE = "http://127.0.0.1:8000/"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """Both ends of a terminal of 40 columns."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    with os.fdopen(theirs, "w") as out:
        yield ours, out
        os.close(ours)


def _line(out: TextIO, figures: str) -> StatusLine:
    line = StatusLine(out, PAGE, "", indexed=True)
    line._figures.text = figures
    return line


def test_lines_stand_whole_above_the_status_line_which_fits_and_goes_in_the_end(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_EVERY", 3600.0)
    ours, out = terminal
    line = _line(out, "7 events | index up to date")
    line.say("before")
    line.refresh()
    line.refresh()  # too early to be drawn again
    line.say("beside")
    line.__exit__()
    shown = "7 events | index up to date | http://"
    expected = f"before\r\n\r\x1b[K{shown}\r\x1b[Kbeside\r\n{shown}\r\x1b[K"
    written = b""
    while len(written) < len(expected) and select.select([ours], [], [], 30)[0]:  # a terminal hands it on bit by bit
        written += os.read(ours, 4096)
    assert written.decode() == expected


def test_where_there_is_no_terminal_nothing_but_lines_is_written() -> None:
    out = io.StringIO()
    line = _line(out, "7 events | index up to date")
    line.refresh()
    line.say("a line")
    line.__exit__()
    assert out.getvalue() == "a line\n"


def test_a_terminal_that_goes_away_ends_the_status_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as out:
        line = _line(out, "7 events | index up to date")
        os.close(ours)
        line.refresh()
        line.__exit__()
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), theirs)  # what could not be written is written when the file is closed


@pytest.mark.parametrize(
    ("events", "behind", "text"),
    [
        (1, 0, "1 event | index up to date"),
        (12_345, 1_000, "12,345 events | index 1,000 events (2.5 s) behind"),
        (0, None, "0 events | no index"),
    ],
)
def test_the_figures_are_said_in_words(events: int, behind: int | None, text: str) -> None:
    assert describe(events, behind, 2.5) == text
