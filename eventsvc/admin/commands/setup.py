"""``eventsvc admin migrate|secrets|kibana|distribute|trigrams``: set up a deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eventsvc.admin.commands.arguments import DatabaseUrl

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection
    from eventsvc.settings import Settings


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(epilog="Example: eventsvc admin migrate --database-url postgresql://localhost/eventsvc")(migrate)
    admin.command(epilog="Example: eventsvc admin secrets ./secrets")(secrets)
    admin.command(
        epilog="Example: eventsvc admin kibana --user events --password-file ./password config/kibana/dashboards.ndjson"
    )(kibana)
    admin.command(epilog="Example: eventsvc admin distribute --by component --yes")(distribute)
    admin.command(epilog="Example: eventsvc admin trigrams --on")(trigrams)


def migrate(database_url: DatabaseUrl = None) -> None:
    """Update the schema of the database. Several processes may run this command at once."""
    from eventsvc.access.store import install_first_keys
    from eventsvc.log import schema

    with _open_log(database_url, "eventsvc migrate") as (connection, settings):
        applied = schema.migrate(connection)
        installed = install_first_keys(connection, settings)
    for name in applied:
        print(f"applied {name}")
    for name in installed:
        print(f"stored the key {name}")
    print("the schema is up to date")


def secrets(
    folder: Annotated[Path, typer.Argument(help="Folder; each service that reads secrets has a subfolder.")],
    database_hosts: Annotated[
        str, typer.Option(help="Hosts of PostgreSQL, separated by commas; the service uses the host that takes writes.")
    ] = "postgres",
) -> None:
    """Make the passwords and certificates that a deployment lacks, and keep all others."""
    from eventsvc.admin.secrets import make_secrets

    for name in make_secrets(folder, database_hosts):
        print(f"made {name}")
    print("all secrets are there")


def kibana(
    file: Annotated[Path, typer.Argument(help="A file of saved objects, as Kibana exports them.")],
    url: Annotated[str, typer.Option(help="Address of Kibana.")] = "http://127.0.0.1:5601",
    user: Annotated[str, typer.Option(help="A user who may manage saved objects.")] = "elastic",
    password_file: Annotated[Path | None, typer.Option(help="File with the password of the user.")] = None,
) -> None:
    """Import a data view, searches and dashboards into Kibana. A second import changes nothing."""
    from eventsvc.admin.kibana import import_saved_objects, read_password

    password = "" if password_file is None else read_password(password_file)
    print(f"{import_saved_objects(url, file, user=user, password=password)} saved objects are in Kibana")


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
    database_url: DatabaseUrl = None,
) -> None:
    """Spread the log over the workers of a Citus cluster, of which this database is the coordinator.

    Stop the API and the indexer first: while the command copies events, requests wait and then get a 503. A killed run
    has changed nothing, or the next run finishes it. Then start the API and the indexer again. See docs/scaling.md.
    """
    from eventsvc.log import citus, schema
    from eventsvc.log.connection import fetch

    with _open_log(database_url, "eventsvc distribute") as (connection, _):
        schema.check(connection)
        ((events,),) = fetch(connection, "SELECT count(*) FROM event")
        if not yes:
            print(f"{events:,} events would be spread by {by} over {shards} shards; add --yes to do it")
            return
        print(f"copying {events:,} events; requests that write wait meanwhile", flush=True)
        for step in citus.distribute(connection, citus.Distribution(by, shards)):
            print(f"done: {step}", flush=True)


def trigrams(
    *,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Build the indexes, or remove them.", show_default="only say")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Build or remove trigram indexes on each month of the log, for a service that searches only in PostgreSQL.

    The indexes make `ct` and `sw` fast for texts of three or more characters. They need space, and writing is a little
    slower. Writers need not wait while the indexes are built. The next run continues an interrupted build.
    """
    from eventsvc.log import trigram_index

    with _open_log(database_url, "eventsvc trigrams") as (connection, _):
        if on is True:
            for name in trigram_index.enable(connection):
                print(f"made {name}")
        elif on is False:
            trigram_index.disable(connection)
        print(f"trigram indexes are {'on' if trigram_index.enabled(connection) else 'off'}")


@contextmanager
def _open_log(database_url: str | None, application_name: str) -> Iterator[tuple[Connection, Settings]]:
    from eventsvc.log import schema
    from eventsvc.settings import find

    settings = find(database_url=database_url)
    dsn = settings.database_url.get_secret_value()
    with schema.session(dsn, application_name=application_name, complete=False) as connection:
        yield connection, settings
