"""Show the progress of a long command on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINE_EVERY = 5.0  # seconds

Advance = Callable[[int], None]


@contextmanager
def show(label: str, total: int) -> Iterator[Advance]:
    """Show progress; yields a function that takes the number of further events done."""
    shown = _show_bar(label, total) if sys.stderr.isatty() else _show_lines(label, total)
    with shown as advance:
        yield advance


@contextmanager
def _show_bar(label: str, total: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    # rich honours NO_COLOR by itself.
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda events: bar.update(task, advance=events)


class _Speed(ProgressColumn):
    """Events a second; empty before the first events."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextmanager
def _show_lines(label: str, total: int) -> Iterator[Advance]:
    started = last = time.monotonic()
    done = 0

    def advance(events: int) -> None:
        nonlocal done, last
        done += events
        now = time.monotonic()
        if now - last >= _LINE_EVERY:
            last = now
            rate = done / (now - started)
            left = (total - done) / rate if rate else 0.0
            print(f"{label}: {done:,} of {total:,}, {rate:,.0f}/s, {left:,.0f} s left", file=sys.stderr, flush=True)

    yield advance
    seconds = time.monotonic() - started
    print(f"{label}: {done:,} in {seconds:.1f} s", file=sys.stderr, flush=True)
