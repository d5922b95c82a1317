"""``eventsvc stats``, ``fields`` and ``explain``: count events, list the paths in their data, explain a query."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Annotated, Any

import typer

from eventsvc.terminal import complete, show
from eventsvc.terminal.options import NOTHING_FOUND, Data, Key, Time, Tz, Url, restrict, service
from eventsvc.terminal.search import Json, Query


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: eventsvc stats \"message ct 'error'\" --by component --interval 1h")(stats)
    app.command(epilog="Example: eventsvc fields \"component eq 'orders'\"")(fields)
    app.command(epilog="Example: eventsvc explain \"createdAt gte 'now-1h'\"")(explain)


def stats(
    query: Query = "",
    *,
    by: Annotated[
        str,
        typer.Option(
            help="Count by a field: component, email, environment or data.path.", autocompletion=complete.groups
        ),
    ] = "",
    interval: Annotated[str, typer.Option(help="Count by time: 1m, 5m, 15m, 1h, 1d or 1w.")] = "",
    time: Annotated[
        Time, typer.Option(help="Count by the time at which events were stored, or happened.")
    ] = Time.CREATED,
    since: Annotated[
        str | None, typer.Option(help="Count only events that are not older: 15m, 1h, 7d, or a date.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of values; the most frequent come first.")] = 10,
    as_json: Json = False,
    tz: Tz = "UTC",
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Count events over time and by value, and draw bars."""
    given = {"q": restrict(query, since, time), "by": by, "interval": interval, "tz": tz}
    given |= {"time": str(time) if interval else "", "top": str(top) if by else ""}
    with service(url, key, data) as opened:
        found = opened.get("/event/stats", {name: value for name, value in given.items() if value})
        if as_json:
            print(json.dumps(found, ensure_ascii=False))
        else:
            print(f"{found['count']:,} event{'s' if found['count'] != 1 else ''}")
            _print_bars([(bucket["start"], bucket["count"]) for bucket in found.get("buckets", ())])
            _print_bars(_values(found))
    if not found["count"]:
        raise typer.Exit(NOTHING_FOUND)


def _values(found: dict[str, Any]) -> list[tuple[str, int]]:
    rows = [(_name(one), one["count"]) for one in found.get("top", ())]
    return [*rows, ("(other)", found["other"])] if found.get("other") else rows


def _name(one: dict[str, Any]) -> str:
    values = one.get("values", [one.get("value")])
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)


def _print_bars(rows: list[tuple[str, int]]) -> None:
    if not rows:
        return
    most = max(count for _, count in rows)
    cells = [(name, f"{count:,}") for name, count in rows]
    used = max(len(name) + len(count) for name, count in cells) + 4
    width = max(10, min(60, shutil.get_terminal_size((100, 24)).columns - used))
    print()
    for line, (_, count) in zip(show.table(cells, right=frozenset({1})), rows, strict=True):
        print(f"{line}  {show.bar(count, most, width)}")


def fields(
    query: Query = "", *, as_json: Json = False, tz: Tz = "UTC", url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List the paths in the data of matching events: how many events have each path, its types, and examples."""
    with service(url, key, data) as opened:
        found = opened.get("/event/fields", {"tz": tz} | ({"q": query} if query else {}))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        rows = [
            (one["path"], f"{one['count']:,}", ", ".join(one["types"]), ", ".join(map(json.dumps, one["examples"][:3])))
            for one in found
        ]
        for line in show.table([("path", "events", "types", "examples"), *rows], right=frozenset({1})):
            print(line)
    if not found:
        raise typer.Exit(NOTHING_FOUND)


def explain(
    query: Annotated[str, typer.Argument(help="A query in the query language.", autocompletion=complete.query)],
    *,
    tz: Tz = "UTC",
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Explain a query: its meaning, and the request to each store. For a wrong query, show the place of the fault."""
    with service(url, key, data) as opened:
        found = opened.get("/query", {"q": query, "tz": tz, "paths": "true"})
    json.dump(found, sys.stdout, ensure_ascii=False, indent=2)
    print()
