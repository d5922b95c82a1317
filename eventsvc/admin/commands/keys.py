"""``eventsvc admin keys create|list|revoke|rotate``: make and revoke the keys of clients."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from eventsvc.admin.commands.arguments import DatabaseUrl, Json
from eventsvc.errors import InvalidParameter

if TYPE_CHECKING:
    from eventsvc.access.store import Made

Name = Annotated[str, typer.Argument(help="The name of the key, which the audit shows.")]


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)
    keys.command(
        epilog="Example: eventsvc admin keys create billing --right write --right read"
        " --where \"component eq 'billing'\" --default component=billing"
    )(create)
    keys.command(name="list", epilog="Example: eventsvc admin keys list --json")(list_)
    keys.command(epilog="Example: eventsvc admin keys revoke billing")(revoke)
    keys.command(epilog="Example: eventsvc admin keys rotate billing --grace 2d")(rotate)
    admin.add_typer(keys, name="keys")


def create(
    *,
    name: Name,
    right: Annotated[
        list[str], typer.Option("--right", help="write, read, erase, admin, metrics or audit; repeatable.")
    ],
    where: Annotated[
        str, typer.Option(metavar="QUERY", help="Restrict the key to the events that match this query.")
    ] = "",
    default: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Value of email, environment or component for events that lack it."),
    ] = None,
    rate: Annotated[str, typer.Option(help="Most requests: 100/s, 60/m, 1000/h.", show_default="no limit")] = "",
    expires: Annotated[str, typer.Option(metavar="AGE", help="Such as 90d or 12h.", show_default="never")] = "",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key, and show it. No command shows the key again."""
    from eventsvc.access import store
    from eventsvc.access.rights import read_age
    from eventsvc.admin.audited import open_log

    life = read_age("--expires", expires) if expires else None
    wanted = store.Wanted(name, _rights(right), where, dict(map(_pair, default or ())), rate, life)
    with open_log(database_url, "eventsvc keys") as (connection, note):
        made = store.create(connection, wanted)
        note("admin keys create", {"made": made.key.id, "of": made.key.name})
    _show_made(made, as_json=as_json)


def list_(*, as_json: Json = False, database_url: DatabaseUrl = None) -> None:
    """List all keys, with their rights and the time of their last use."""
    from eventsvc.access import store
    from eventsvc.admin.audited import open_log
    from eventsvc.admin.commands import output

    with open_log(database_url, "eventsvc keys") as (connection, _):
        found = store.list_keys(connection)
    if as_json:
        output.print_json([key.to_json() for key in found])
        return
    rows = [
        [
            key.id,
            key.name,
            ", ".join(key.rights),
            key.where or "-",
            key.state,
            _day(key.expires_at),
            _day(key.last_used_at),
        ]
        for key in found
    ]
    output.print_table(("id", "name", "rights", "where", "state", "expires", "last used"), rows)


def revoke(
    *,
    name: Annotated[str, typer.Argument(help="The id of a key, or a name for all keys of this name.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Revoke a key. Within 5 seconds, every process refuses the key."""
    from eventsvc.access import store
    from eventsvc.admin.audited import open_log
    from eventsvc.admin.commands import output

    with open_log(database_url, "eventsvc keys") as (connection, note):
        revoked = store.revoke(connection, name)
        note("admin keys revoke", {"revoked": revoked})
    if as_json:
        output.print_json(revoked)
    else:
        print(f"revoked {', '.join(revoked)}")


def rotate(
    *,
    name: Name,
    grace: Annotated[str, typer.Option(metavar="AGE", help="Time in which the old key stays valid.")] = "24h",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Replace a key by a new key, and show the new key. For a time, both keys are valid."""
    from eventsvc.access import store
    from eventsvc.access.rights import read_age
    from eventsvc.admin.audited import open_log

    with open_log(database_url, "eventsvc keys") as (connection, note):
        made = store.rotate(connection, name, read_age("--grace", grace))
        note("admin keys rotate", {"made": made.key.id, "of": made.key.name})
    _show_made(made, as_json=as_json)


def _rights(names: list[str]) -> list[str]:
    from eventsvc.access.rights import Right

    for name in names:
        if name not in Right.__members__.values():
            raise InvalidParameter("--right", f"there is no right {name!r}; there are {', '.join(Right)}")
    return names


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidParameter("--default", f"{text!r} is not FIELD=VALUE")
    return name, value


def _show_made(made: Made, *, as_json: bool) -> None:
    from eventsvc.admin.commands import output

    if as_json:
        output.print_json({"key": made.text} | made.key.to_json())
        return
    print(made.text)
    print(f"This is the key {made.key.name}; it is shown only now. Send it as `Authorization: Bearer …`.")


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
