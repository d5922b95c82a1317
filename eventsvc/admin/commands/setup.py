"""``eventsvc admin secrets`` and ``eventsvc admin kibana``: what a deployment runs once, before and after its start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(epilog="Example: eventsvc admin secrets ./secrets")(secrets)
    admin.command(
        epilog="Example: eventsvc admin kibana --user events --password-file ./password config/kibana/dashboards.ndjson"
    )(kibana)


def secrets(
    folder: Annotated[Path, typer.Argument(help="Where they go; one subfolder for each service that reads them.")],
) -> None:
    """Make the passwords and certificates that a deployment lacks; what exists is kept."""
    from eventsvc.admin.setup import make_secrets

    for name in make_secrets(folder):
        print(f"made {name}")
    print("all secrets are there")


def kibana(
    file: Annotated[Path, typer.Argument(help="Saved objects, as Kibana exports them.")],
    url: Annotated[str, typer.Option(help="Kibana's address.")] = "http://127.0.0.1:5601",
    user: Annotated[str, typer.Option(help="Who may manage saved objects.")] = "elastic",
    password_file: Annotated[Path | None, typer.Option(help="File that holds the user's password.")] = None,
) -> None:
    """Import data view, searches and dashboards into Kibana; a second import changes nothing."""
    from eventsvc.admin.setup import import_saved_objects, read_password

    password = "" if password_file is None else read_password(password_file)
    print(f"{import_saved_objects(url, file, user=user, password=password)} saved objects are in Kibana")
