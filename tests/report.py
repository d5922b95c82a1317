"""Write what a benchmark or a run of faults has measured into its page of the documentation."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def replace_block(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = document.read_text(encoding="utf-8")
    new = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.DOTALL)
    document.write_text(new, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def conditions(command: str) -> str:
    """Say what was run, when, and on which machine in which state."""
    load = os.getloadavg()[0]
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, everything on one machine,"
        f" load average {load:.0f} at the end:"
    )


def compare(what: str, rates: Mapping[str, Sequence[float]], *, digits: int = 0) -> list[tuple[str, ...]]:
    """Give a row for each side: its median, each round, and the ratio to the first side."""
    base = statistics.median(next(iter(rates.values())))
    rows: list[tuple[str, ...]] = []
    for side, each in rates.items():
        median = statistics.median(each)
        rounds = ", ".join(f"{rate:,.{digits}f}" for rate in each)
        rows.append((f"{what}; {side}", f"{median:,.{digits}f} ({rounds})", f"{median / base:.2f}"))
    return rows
