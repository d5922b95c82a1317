"""``eventsvc admin import|export``: thin calls, results on stdout."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from eventsvc.errors import SetupError

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection

DatabaseUrl = Annotated[
    str | None, typer.Option(help="PostgreSQL to use.", show_default="EVENTSVC_DATABASE_URL", metavar="URL")
]

SOME_REFUSED = 3  # exit code: the good lines were stored, others were refused


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(name="import", epilog="Example: eventsvc admin import events.ndjson.zst")(import_)
    admin.command(epilog="Example: eventsvc admin export --q \"component eq 'billing'\" --output billing.ndjson.gz")(
        export
    )


def import_(
    file: Annotated[str, typer.Argument(help="NDJSON, plain, .gz or .zst; - for standard input.")],
    source: Annotated[
        str,
        typer.Option(help="Another name stores the events of a file a second time; ids that they bring still count."),
    ] = "",
    *,
    include_erased: Annotated[
        bool, typer.Option("--include-erased", help="Bring back events that were erased since the file was written.")
    ] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Store events from a file; they may bring their own id and createdAt.

    Killed at any moment, run it again: what is there already is not stored twice, even if the file was renamed or
    has grown since.
    Exit code 3: some lines were refused, and all others are stored.
    """
    from eventsvc.admin.commands import output
    from eventsvc.admin.transfer import import_events

    with ExitStack() as stack:
        packed = _open_input(stack, file)
        connection = stack.enter_context(closing(_connect(database_url)))
        advance = stack.enter_context(_show("import", packed if packed.seekable() else None))
        report = import_events(connection, packed, source, advance, include_erased=include_erased)
    output.print_json(report.to_json())
    if report.refused:
        raise typer.Exit(SOME_REFUSED)


def export(
    q: Annotated[str | None, typer.Option("--q", help="A query; everything if not given.")] = None,
    tz: Annotated[str, typer.Option(help="Time zone of dates in the query.")] = "UTC",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; .gz and .zst are packed.", show_default="stdout")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write events as NDJSON, oldest first; `admin import` reads it back."""
    from eventsvc.admin.transfer import export_events, open_output
    from eventsvc.query.parse import parse

    node = None if q is None else parse(q, now=round(time.time() * 1000), tz=tz)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(_connect(database_url)))
        out: IO[bytes] = sys.stdout.buffer if output is None else stack.enter_context(open_output(output))
        advance = stack.enter_context(_show("export", None))
        export_events(connection, node, out, advance)


def _open_input(stack: ExitStack, file: str) -> IO[bytes]:
    if file == "-":
        return io.FileIO(sys.stdin.fileno(), closefd=False)
    try:
        return stack.enter_context(Path(file).open("rb", buffering=0))
    except OSError as exc:
        raise SetupError(f"cannot read {file}: {exc.strerror}") from exc


@contextmanager
def _show(label: str, file: IO[bytes] | None) -> Iterator[Callable[[int], None]]:
    """Show how many events are done and, of a file, which part of it was read; only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[events]:,} events"), BarColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None if file is None else os.fstat(file.fileno()).st_size, events=0)
        events = 0

        def advance(more: int) -> None:
            nonlocal events
            events += more
            bar.update(task, events=events, completed=None if file is None else file.tell())

        yield advance


def _connect(database_url: str | None) -> Connection:
    from eventsvc.log import schema
    from eventsvc.log.connection import connect
    from eventsvc.settings import find

    settings = find(database_url=database_url)
    dsn = settings.database_url.get_secret_value()
    # Who reads an export may pause.
    connection = connect(dsn, application_name="eventsvc transfer", idle_in_transaction=3600.0)
    schema.check(connection)
    return connection
