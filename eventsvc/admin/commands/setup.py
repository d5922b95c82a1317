"""``eventsvc admin migrate``, ``secrets`` and ``kibana``: the commands that a deployment runs at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventsvc.admin.commands.index import DatabaseUrl


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(epilog="Example: eventsvc admin migrate --database-url postgresql://localhost/eventsvc")(migrate)
    admin.command(epilog="Example: eventsvc admin secrets ./secrets")(secrets)
    admin.command(
        epilog="Example: eventsvc admin kibana --user events --password-file ./password config/kibana/dashboards.ndjson"
    )(kibana)


def migrate(database_url: DatabaseUrl = None) -> None:
    """Update the schema of the database. Several processes may run this command at once."""
    from eventsvc.access.store import install_first_keys
    from eventsvc.log import schema
    from eventsvc.log.connection import connect
    from eventsvc.settings import find

    settings = find(database_url=database_url)
    connection = connect(settings.database_url.get_secret_value(), application_name="eventsvc migrate")
    try:
        applied = schema.migrate(connection)
        installed = install_first_keys(connection, settings)
    finally:
        connection.close()
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
    from eventsvc.admin.setup import make_secrets

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
    from eventsvc.admin.setup import import_saved_objects, read_password

    password = "" if password_file is None else read_password(password_file)
    print(f"{import_saved_objects(url, file, user=user, password=password)} saved objects are in Kibana")
