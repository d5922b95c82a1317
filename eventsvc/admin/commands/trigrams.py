"""``eventsvc admin trigrams``: make substring search in PostgreSQL fast, for a service without Elasticsearch."""

from __future__ import annotations

from typing import Annotated

import typer


def register(admin: typer.Typer) -> None:
    """Add the command."""
    admin.command(epilog="Example: eventsvc admin trigrams --on")(trigrams)


def trigrams(
    *,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Build the indexes, or remove them.", show_default="only say")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="PostgreSQL to use.", show_default="EVENTSVC_DATABASE_URL", metavar="URL")
    ] = None,
) -> None:
    """Build or remove trigram indexes on each month of the log, for a service that searches only in PostgreSQL.

    The indexes make `ct` and `sw` fast for texts of three or more characters. They need space, and writing is a little
    slower. Writers need not wait while the indexes are built. The next run continues an interrupted build.
    """
    from eventsvc.log import trigram_index
    from eventsvc.log.connection import connect
    from eventsvc.settings import find

    settings = find(database_url=database_url)
    connection = connect(settings.database_url.get_secret_value(), application_name="eventsvc trigrams")
    try:
        if on is True:
            for name in trigram_index.enable(connection):
                print(f"made {name}")
        elif on is False:
            trigram_index.disable(connection)
        print(f"trigram indexes are {'on' if trigram_index.enabled(connection) else 'off'}")
    finally:
        connection.close()
