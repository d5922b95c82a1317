"""The status line of `eventsvc dev` at the bottom of a terminal. Other outputs have no status line."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, suppress
from typing import Self, TextIO

from eventsvc.errors import EventsvcError
from eventsvc.log.connection import Connection, connect, fetch, translate_errors

_EVERY = 1.0  # seconds
_TIMES_THE_COST = 20  # a pause is this many times as long as the count, which takes long for a large log
_PATIENCE = 60.0  # seconds
_ERASE = "\r\x1b[K"
_SPARE = 3  # columns for the ^C that a terminal writes at the cursor

_FIGURES = """
    SELECT (SELECT count(*) FROM event), count(tail.seq),
        coalesce(extract(epoch FROM clock_timestamp() - min(tail.created_at)), 0)::float
    FROM watermark LEFT JOIN event AS tail ON tail.seq > watermark.seq
"""


class StatusLine:
    """Writes whole lines, and keeps the status line below them if ``out`` is a terminal.

    Only one thread may write. Another thread asks PostgreSQL, because PostgreSQL may not answer.
    """

    def __init__(self, out: TextIO, page: str, database_url: str, *, indexed: bool) -> None:
        """Prepare, without a statement.

        Args:
            out: the output for the lines.
            page: the URL of the web page.
            database_url: the connection string of the log.
            indexed: whether an Elasticsearch runs.
        """
        self._out, self._page = out, page
        self._shows = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._figures = _Figures(database_url, indexed=indexed)
        self._drawn, self._due = False, 0.0

    def __enter__(self) -> Self:
        if self._shows:
            self._figures.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._figures.end()
        with suppress(OSError):  # the terminal may be closed
            self._write("")

    def say(self, line: str) -> None:
        """Write a line above the status line."""
        self._write(line + "\n", self._status() if self._drawn else "")

    def refresh(self) -> None:
        """Draw the status line again, at most once a second."""
        now = time.monotonic()
        if self._shows and now >= self._due and self._figures.text:
            self._due = now + _EVERY
            try:
                self._write("", self._status())
            except OSError:  # the terminal is closed, and the service goes on without it
                self._shows = self._drawn = False

    def _status(self) -> str:
        columns = os.get_terminal_size(self._out.fileno()).columns or 80
        return f"{self._figures.text} | {self._page}"[: max(columns - _SPARE, 0)]

    def _write(self, lines: str, status: str = "") -> None:
        """Replace the status line by lines and a new status line. In the background, write only the lines."""
        in_front = self._shows and self._is_in_front()
        erase = _ERASE if in_front and (self._drawn or status) else ""
        self._drawn = in_front and bool(status)
        if text := erase + lines + (status if in_front else ""):
            self._out.write(text)
            self._out.flush()

    def _is_in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self._out.fileno()) == os.getpgrp()
        except OSError:  # this terminal does not control the process
            return True


class _Figures(threading.Thread):
    """Counts the events, and the events that are not in the index yet, again and again."""

    def __init__(self, database_url: str, *, indexed: bool) -> None:
        super().__init__(name="status", daemon=True)
        self._url, self._indexed = database_url, indexed
        self._ended = threading.Event()
        self.text = ""

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(
                    connect(self._url, application_name="eventsvc dev", statement_timeout=_PATIENCE)
                ) as opened:
                    self._ask_for_ever(opened)
            except EventsvcError:
                self.text = "PostgreSQL does not answer"
                self._ended.wait(_EVERY)

    def _ask_for_ever(self, connection: Connection) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            with translate_errors():
                ((events, behind, seconds),) = fetch(connection, _FIGURES)
            self.text = describe(events, behind if self._indexed else None, seconds)
            self._ended.wait(max(_EVERY, _TIMES_THE_COST * (time.monotonic() - started)))

    def end(self) -> None:
        """Send no more statements. The method does not wait for the last answer."""
        self._ended.set()


def describe(events: int, behind: int | None, seconds: float) -> str:
    """Describe the number of events, and the number that the index lacks. ``behind`` is None without an index."""
    if behind is None:
        index = "no index"
    elif behind:
        index = f"index {_events(behind)} ({seconds:,.1f} s) behind"
    else:
        index = "index up to date"
    return f"{_events(events)} | {index}"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
