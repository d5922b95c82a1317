"""``eventsvc admin import|export``: store events from a file, and write events to a file."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from eventsvc.admin.commands.arguments import DatabaseUrl
from eventsvc.errors import SetupError

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection


SOME_REFUSED = 3  # exit code: the good lines were stored, others were refused


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(name="import", epilog="Example: eventsvc admin import events.ndjson.zst")(import_)
    admin.command(epilog="Example: eventsvc admin export --q \"component eq 'billing'\" --output billing.ndjson.gz")(
        export
    )


def import_(
    file: Annotated[str, typer.Argument(help="NDJSON file, also .gz or .zst; - for standard input.")],
    source: Annotated[
        str,
        typer.Option(help="Name of the import; a file is stored again under another name, except events with an id."),
    ] = "",
    *,
    include_erased: Annotated[
        bool, typer.Option("--include-erased", help="Also store events that were erased after the export.")
    ] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Store the events of a file. An event may have its own id and createdAt.

    After a kill, run the command again. The command stores no event twice, even if the file has another name by now or
    has grown.
    Exit code 3: some lines were refused, and all others are stored.
    """
    from eventsvc.admin.commands import output
    from eventsvc.admin.transfer import import_events

    with ExitStack() as stack:
        packed = _open_input(stack, file)
        connection = stack.enter_context(_open_log(database_url))
        advance = stack.enter_context(_show("import", packed if packed.seekable() else None))
        report = import_events(connection, packed, source, advance, include_erased=include_erased)
    output.print_json(report.to_json())
    if report.refused:
        raise typer.Exit(SOME_REFUSED)


def export(
    q: Annotated[str | None, typer.Option("--q", help="A query; without a query, every event.")] = None,
    tz: Annotated[str, typer.Option(help="Time zone of dates without a time in the query.")] = "UTC",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; .gz and .zst are compressed.", show_default="stdout")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write events as NDJSON, oldest first. `admin import` reads this file."""
    from eventsvc.admin.transfer import export_events, open_output
    from eventsvc.query.parse import parse

    node = None if q is None else parse(q, now=round(time.time() * 1000), tz=tz)
    with ExitStack() as stack:
        connection = stack.enter_context(_open_log(database_url))
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
    """Show on a terminal how many events are done, and which part of a file is read."""
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


def _open_log(database_url: str | None) -> AbstractContextManager[Connection]:
    from eventsvc.log import schema
    from eventsvc.settings import find

    dsn = find(database_url=database_url).database_url.get_secret_value()
    # The reader of an export may pause, so the transaction of the export may be idle for an hour.
    return schema.session(dsn, application_name="eventsvc transfer", idle_in_transaction=3600.0)
