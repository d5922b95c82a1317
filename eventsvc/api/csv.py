"""Write events as CSV (RFC 4180) for spreadsheets, so that no cell is run as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from eventsvc.api import media
from eventsvc.event import Event
from eventsvc.fields import FIELDS

# SECURITY: a spreadsheet takes a cell with such a beginning for a formula, and a formula may run programs and send data
# away. So a sender of events could run code on the machine of a person who opens the file. The page has the same list.
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  (full-width: Excel reads them alike)


class Csv:
    """Writes one event a row, below a row of names; ``data`` is JSON text. See ``export.ExportForm``."""

    content_type = f"{media.CSV}; charset=utf-8; header=present"

    def __init__(self, fields: Sequence[str] | None) -> None:
        self._fields = tuple(FIELDS) if fields is None else tuple(fields)

    def begin(self) -> bytes:
        """See ``export.ExportForm``."""
        return _rows([self._fields])

    def write(self, events: Sequence[Event]) -> bytes:
        """See ``export.ExportForm``."""
        return _rows([defuse(_text(event, name)) for name in self._fields] for event in events)

    def end(self, count: int) -> bytes:
        """See ``export.ExportForm``."""
        return _rows([("#count", str(count))])

    def break_off(self, problem: dict[str, Any]) -> bytes:
        """See ``export.ExportForm``."""
        return _rows([("#error", f"{problem['title']}: {problem['detail']}")])


def defuse(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(DANGEROUS) else text


def _text(event: Event, name: str) -> str:
    return event.data if name == "data" else str(event.to_json()[name])


def _rows(rows: Iterable[Sequence[str]]) -> bytes:
    # PERF: the writer never stops for other threads, but a generator does, before each row.
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()
