"""Print results on stdout: a table for people, JSON for scripts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. A column whose name begins with # holds numbers."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.removeprefix("#"), justify="right" if name.startswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Lines are folded on a terminal only: elsewhere the reader may be grep.
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows as JSON, or the members of each row that the columns name as a table."""
    if as_json:
        print_json(rows)
    else:
        names = [column.removeprefix("#") for column in columns]
        print_table(columns, [[_show(row[name]) for name in names] for row in rows])


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def size(number: int | None) -> str:
    """Write a number of bytes with a unit."""
    if number is None:
        return "-"
    value, units = float(number), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":  # noqa: PLR2004
        value, unit = value / 1024, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
