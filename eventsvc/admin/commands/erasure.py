"""``eventsvc admin erase`` and ``eventsvc admin retention …``: erase events, remove old events, hold events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsvc.admin.commands.arguments import DatabaseUrl, ElasticsearchUrl, Json
from eventsvc.errors import InvalidParameter

if TYPE_CHECKING:
    from eventsvc.admin.stores import Stores
    from eventsvc.erasure.erase import Preview
    from eventsvc.log.progress.erasures import Erasure
    from eventsvc.log.progress.retention_rules import Rule
    from eventsvc.query import ast

NOT_CLEAN = 3  # exit code: something of erased events is left

retention = typer.Typer(no_args_is_help=True, help="Rules that remove old events, and holds that keep events.")
Query = Annotated[str, typer.Argument(metavar="QUERY", help="A query in the query language.")]
Age = Annotated[str, typer.Argument(metavar="AGE", help="An age such as 14d, 12w or 6h.")]


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(
        epilog="Example: eventsvc admin erase --email diego@chefhero.com --reason 'asked to be forgotten' --yes"
    )(erase)
    example = "Example: eventsvc admin retention"
    retention.command("set", epilog=f"{example} set \"environment eq 'staging'\" 14d")(set_rule)
    retention.command("list", epilog=f"{example} list --json")(list_rules)
    retention.command("remove", epilog=f"{example} remove \"environment eq 'staging'\"")(remove_rule)
    retention.command("preview", epilog=f"{example} preview \"environment eq 'staging'\" 14d")(preview)
    retention.command("hold", epilog=f"{example} hold lawsuit \"email eq 'a@b.c'\" --reason 'case 7'")(hold)
    retention.command("release", epilog=f"{example} release lawsuit")(release)
    admin.add_typer(retention, name="retention")


def erase(
    *,
    email: Annotated[str | None, typer.Option(help="Erase the events of this e-mail address.")] = None,
    q: Annotated[
        str | None, typer.Option("--q", metavar="QUERY", help="Erase the events that match this query.")
    ] = None,
    reason: Annotated[str, typer.Option(help="The reason, which is recorded.")] = "",
    until_now: Annotated[bool, typer.Option("--until-now", help="Erase only events that are stored already.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this option, only say what would be erased.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Go on until neither store has a byte of these events.")
    ] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Erase the events of a person, or the events that match a query. Nothing brings erased events back."""
    from eventsvc.admin import audited
    from eventsvc.admin.commands import output
    from eventsvc.admin.stores import open_stores
    from eventsvc.erasure import erase as engine
    from eventsvc.settings import find

    node = _which(email, q)
    with open_stores(find(database_url=database_url, elasticsearch_url=elasticsearch_url)) as stores:
        found = engine.preview(stores.connection, node)
        rows = [{"month": f"{month:%Y-%m}", "events": count} for month, count in found.months]
        if not yes:
            _show_preview(found, rows, as_json=as_json)
            return
        if not reason.strip():
            raise InvalidParameter("--reason", "say why these events are erased; it is recorded")
        request = engine.ErasureRequest(
            node, reason.strip(), f"{audited.user_name()} (command line)", until_now=until_now
        )
        begun = engine.begin(stores.connection, request)
        details = {"erasure": begun.id, "events": begun.counted}
        audited.note(stores.connection, stores.settings, "admin erase", details, {"q": request.text})
        done = _run(stores, begun)
        if purge:
            _purge(stores)
    if as_json:
        output.print_json({"done": True, "id": done.id, "count": done.counted, "erased": done.erased, "months": rows})
    else:
        print(f"{done.erased:,} events are erased (erasure {done.id})")


def _show_preview(found: Preview, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from eventsvc.admin.commands import output

    if as_json:
        held = [{"hold": name, "events": count} for name, count in found.held]
        output.print_json({"done": False, "count": found.count, "months": rows, "held": held})
    else:
        output.print_table(("month", "#events"), [(row["month"], f"{row['events']:,}") for row in rows])
        print(f"{found.count:,} events would go; add --reason and --yes to do it")


def _which(email: str | None, q: str | None) -> ast.Node:
    from eventsvc.query.parse import parse
    from eventsvc.query.render import quote

    if (email is None) == (q is None):
        raise InvalidParameter("--email, --q", "give one of the two")
    return parse(q if q is not None else f"email eq {quote(email or '')}", now=round(time.time() * 1000))


def _run(stores: Stores, begun: Erasure) -> Erasure:
    """Work on the erasure until it is done, or wait until the indexer has done it; show the progress."""
    from eventsvc.admin.commands import progress
    from eventsvc.erasure.erase import run_all
    from eventsvc.log.progress import erasures

    current = begun
    with progress.show("erase", begun.counted) as advance:
        while current.finished_at is None:
            batches = run_all(stores.connection)
            for _ in batches:
                current = _advance(stores, current, advance)
            time.sleep(0.0 if current.finished_at else 0.2)
            current = _advance(stores, current, advance)
    found = erasures.read(stores.connection, begun.id)
    return found or begun


def _advance(stores: Stores, current: Erasure, advance: Any) -> Erasure:
    from eventsvc.log.progress import erasures

    found = erasures.read(stores.connection, current.id) or current
    advance(found.erased - current.erased)
    return found


def _purge(stores: Stores) -> None:
    from eventsvc.erasure import purge

    for step in purge.purge(stores.connection, stores.elasticsearch):
        print(f"purge: {step}", flush=True)


def check_erased(stores: Stores, *, as_json: bool) -> None:
    """Print what is left of erased events, for ``admin verify --erased``. Exit code 3: something is left."""
    from dataclasses import asdict

    from eventsvc.admin.commands import output
    from eventsvc.erasure.purge import inspect

    left = inspect(stores.connection, stores.elasticsearch)
    if as_json:
        output.print_json(asdict(left) | {"nothing": left.nothing})
    else:
        output.print_table(("left of erased events", "#count"), [(n, _shown(v)) for n, v in asdict(left).items()])
    if not left.nothing:
        raise typer.Exit(NOT_CLEAN)


def _shown(value: Any) -> str:
    return (
        ", ".join(f"{name}: {count:,}" for name, count in value.items()) or "0"
        if isinstance(value, dict)
        else str(value)
    )


def set_rule(query: Query, age: Age, database_url: DatabaseUrl = None) -> None:
    """Set a rule: `eventsvc index` removes matching events of this age, once an hour."""
    from eventsvc.admin.audited import open_log
    from eventsvc.log.progress import retention_rules

    with open_log(database_url, "eventsvc retention") as (connection, note):
        rule = _rule(query, age)
        retention_rules.put_rule(connection, rule)
        note("admin retention set", {"seconds": rule.seconds}, {"q": rule.query})
    print(f"events that match {rule.query} go after {_age(rule.seconds)}")


def list_rules(*, as_json: Json = False, database_url: DatabaseUrl = None) -> None:
    """List the rules and the holds."""
    from eventsvc.admin.audited import open_log
    from eventsvc.admin.commands import output
    from eventsvc.log.progress import erasures, retention_rules

    with open_log(database_url, "eventsvc retention") as (connection, _):
        rules, holds = retention_rules.list_rules(connection), erasures.list_holds(connection)
    if as_json:
        output.print_json(
            {
                "rules": [{"query": rule.query, "seconds": rule.seconds} for rule in rules],
                "holds": [{"name": one.name, "query": one.query, "reason": one.reason} for one in holds],
            }
        )
        return
    rows = [("go", rule.query, f"after {_age(rule.seconds)}") for rule in rules]
    rows += [("stay", one.query, f"hold {one.name}: {one.reason}") for one in holds]
    output.print_table(("events", "query", "why"), rows)


def remove_rule(query: Query, database_url: DatabaseUrl = None) -> None:
    """Remove a rule."""
    from eventsvc.admin.audited import open_log
    from eventsvc.log.progress import retention_rules

    with open_log(database_url, "eventsvc retention") as (connection, note):
        if not retention_rules.remove_rule(connection, _canonical(query)):
            raise InvalidParameter("QUERY", "there is no rule with this query; `retention list` shows those there are")
        note("admin retention remove", {}, {"q": _canonical(query)})
    print("removed")


def preview(query: Query, age: Age, *, as_json: Json = False, database_url: DatabaseUrl = None) -> None:
    """Count the events that a rule would remove now; remove nothing."""
    from eventsvc.admin.audited import open_log
    from eventsvc.admin.commands import output
    from eventsvc.erasure import retention as engine

    with open_log(database_url, "eventsvc retention") as (connection, _):
        months = engine.preview(connection, _rule(query, age))
    if as_json:
        output.print_json([{"month": f"{month:%Y-%m}", "events": count} for month, count in months])
    else:
        output.print_table(("month", "#events"), [(f"{month:%Y-%m}", f"{count:,}") for month, count in months])


def hold(
    name: Annotated[str, typer.Argument(help="The name of the hold.")],
    query: Query,
    reason: Annotated[str, typer.Option(help="The reason.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Keep matching events: no rule, no pruning and no erasure removes these events until the hold is released."""
    from eventsvc.admin.audited import open_log
    from eventsvc.log.progress import erasures

    with open_log(database_url, "eventsvc retention") as (connection, note):
        erasures.put_hold(connection, name, _canonical(query), reason)
        note("admin retention hold", {"hold": name}, {"q": _canonical(query)})
    print(f"hold {name} keeps what matches {_canonical(query)}")


def release(
    name: Annotated[str, typer.Argument(help="The name of the hold.")], database_url: DatabaseUrl = None
) -> None:
    """Remove a hold."""
    from eventsvc.admin.audited import open_log
    from eventsvc.log.progress import erasures

    with open_log(database_url, "eventsvc retention") as (connection, note):
        if not erasures.release_hold(connection, name):
            raise InvalidParameter("NAME", f"there is no hold {name!r}; `retention list` shows those there are")
        note("admin retention release", {"hold": name}, {})
    print(f"hold {name} is released")


def _canonical(query: str) -> str:
    from eventsvc.query.parse import parse
    from eventsvc.query.render import render

    return render(parse(query, now=round(time.time() * 1000)))


def _rule(query: str, age: str) -> Rule:
    from eventsvc.access.rights import read_age
    from eventsvc.log.progress.retention_rules import Rule

    return Rule(_canonical(query), max(1, round(read_age("AGE", age).total_seconds())))


def _age(seconds: int) -> str:
    units: Iterable[tuple[str, int]] = (("days", 86_400), ("hours", 3600))
    return next((f"{seconds // size} {unit}" for unit, size in units if not seconds % size), f"{seconds} seconds")
