"""The command line. Commands write results to stdout and errors to stderr; the exit code of a failure is 1."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from eventsvc import connection_file
from eventsvc.admin.commands.arguments import DatabaseUrl, ElasticsearchUrl
from eventsvc.admin.commands.group import admin
from eventsvc.errors import EventsvcError, QueryError
from eventsvc.terminal import count, log, sample, search

app = typer.Typer(
    help="An append-only log of events in PostgreSQL, searched through Elasticsearch.\n\n"
    "Settings are environment variables EVENTSVC_*. Options win over settings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text is shown at once, and is the same without rich
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (log, search, count, sample):
    module.register(app)
app.add_typer(admin, name="admin")

Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="EVENTSVC_HOST, 127.0.0.1")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="EVENTSVC_PORT, 8000")
]
Workers = Annotated[int | None, typer.Option(min=1, help="API processes.", show_default="EVENTSVC_WORKERS, 2")]


def main() -> None:
    """Run the command line. An expected error becomes a message without a traceback."""
    try:
        app(prog_name="eventsvc")
    except ModuleNotFoundError as exc:
        if (exc.name or "eventsvc").partition(".")[0] == "eventsvc":
            raise
        hint = "pip install 'eventsvc[server]' (with servers for `eventsvc dev`: 'eventsvc[local]')"
        print(f"eventsvc: this command needs the service, which is not installed here: {hint}", file=sys.stderr)
        sys.exit(1)
    except Exception as exc:
        if not _is_expected(exc):
            raise
        _show(exc)
        sys.exit(1)


def _is_expected(exc: Exception) -> bool:
    """Tell whether the cause lies outside of this program: in the arguments, the machine, or a server."""
    root = type(exc).__module__.partition(".")[0]
    return isinstance(exc, (EventsvcError, OSError)) or root in {"psycopg2", "elasticsearch", "elastic_transport"}


def _show(exc: BaseException) -> None:
    """Print an error, and then those of its causes that add something."""
    shown = _text(exc)
    where = f"{exc.filename}: " if isinstance(exc, OSError) and exc.filename else ""
    print(f"eventsvc: {where}{shown}", file=sys.stderr)
    if isinstance(exc, QueryError):
        _show_place(exc)
        return
    while (cause := exc.__cause__) is not None:
        if (text := _text(cause)) and text not in shown:
            print(f"  because: {text}", file=sys.stderr)
        shown, exc = shown + text, cause


def _show_place(exc: QueryError) -> None:
    """Show the place of a fault in a query, the expected words, and the hint, as the API does."""
    from eventsvc.query.mistakes import render_excerpt

    print("\n".join(f"  {line}" for line in render_excerpt(exc).splitlines()), file=sys.stderr)
    if exc.expected:
        print(f"  expected: {', '.join(exc.expected)}", file=sys.stderr)
    if exc.hint:
        print(f"  hint: {exc.hint}", file=sys.stderr)


def _text(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    if type(exc).__module__.startswith("psycopg2"):
        return f"PostgreSQL: {lines[0]}"  # the other lines quote the statement
    return "\n".join(lines)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  (typer's signature)
    if wanted:
        from importlib import metadata

        print(f"eventsvc {metadata.version('eventsvc')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


@app.command(epilog="Example: eventsvc serve --host 0.0.0.0 --workers 4")
def serve(
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C."""
    from eventsvc.serve.gunicorn import run
    from eventsvc.settings import find

    run(find(host=host, port=port, workers=workers, database_url=database_url, elasticsearch_url=elasticsearch_url))


@app.command(epilog="Example: EVENTSVC_ELASTICSEARCH_URL=http://localhost:9200 eventsvc index")
def index(database_url: DatabaseUrl = None, elasticsearch_url: ElasticsearchUrl = None) -> None:
    """Write the events of the log to Elasticsearch until SIGTERM. Several indexers share the work."""
    from eventsvc.indexer.indexer import run
    from eventsvc.settings import find
    from eventsvc.telemetry import configure_logging

    settings = find(database_url=database_url, elasticsearch_url=elasticsearch_url)
    configure_logging(settings.log_format, settings.log_level)
    run(settings)


@app.command(epilog="Example: eventsvc dev --port 8080 --data /tmp/events --sample")
def dev(
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    *,
    data: Annotated[
        Path, typer.Option(help="Folder for data and logs, which stays between runs.", envvar=connection_file.DATA)
    ] = Path(connection_file.DEFAULT_FOLDER),
    servers: Annotated[
        Literal["auto", "containers", "local"] | None,
        typer.Option(help="How to run PostgreSQL and Elasticsearch.", show_default="EVENTSVC_DEV_SERVERS, auto"),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Store the events of `eventsvc sample`, unless such events are there already."),
    ] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, Elasticsearch, API and indexer."""
    from eventsvc.dev.run import run
    from eventsvc.settings import load

    run(load(host=host, port=port, workers=workers, dev_servers=servers), data, sample=sample)
