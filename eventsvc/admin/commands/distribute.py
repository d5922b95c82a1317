"""``eventsvc admin distribute``: spread the log over several servers, with Citus."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def register(admin: typer.Typer) -> None:
    """Add the command."""
    admin.command(epilog="Example: eventsvc admin distribute --by component --yes")(distribute)


def distribute(
    *,
    by: Annotated[
        Literal["component", "email", "id"],
        typer.Option(help="Field; events with the same value lie on the same worker."),
    ],
    shards: Annotated[int, typer.Option(min=1, max=4096, help="Number of shards; more than there are workers.")] = 32,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this option, only say what would be done.")
    ] = False,
    database_url: Annotated[
        str | None, typer.Option(help="PostgreSQL to use.", show_default="EVENTSVC_DATABASE_URL", metavar="URL")
    ] = None,
) -> None:
    """Spread the log over the workers of a Citus cluster, of which this database is the coordinator.

    Stop the API and the indexer first: while the command copies events, requests wait and then get a 503. A killed run
    has changed nothing, or the next run finishes it. Then start the API and the indexer again. See docs/scaling.md.
    """
    from eventsvc.log import citus, schema
    from eventsvc.log.connection import connect
    from eventsvc.settings import find

    settings = find(database_url=database_url)
    connection = connect(settings.database_url.get_secret_value(), application_name="eventsvc distribute")
    try:
        schema.check(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM event")
            ((events,),) = cursor.fetchall()
        if not yes:
            print(f"{events:,} events would be spread by {by} over {shards} shards; add --yes to do it")
            return
        print(f"copying {events:,} events; requests that write wait meanwhile", flush=True)
        for step in citus.distribute(connection, citus.Distribution(by, shards)):
            print(f"done: {step}", flush=True)
    finally:
        connection.close()
