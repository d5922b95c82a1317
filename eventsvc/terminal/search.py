"""``eventsvc search``, ``tail``, ``context`` and ``open``: find events, and follow new events."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Annotated, Any

import typer

from eventsvc.terminal import complete, show
from eventsvc.terminal.options import NOTHING_FOUND, Data, Key, Time, Tz, Url, restrict, service
from eventsvc.terminal.service import Service, ServiceError, read_lines

_PAGE = 1000  # events in one request
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # seconds between attempts to connect to the live stream
_NEXT = re.compile(r'<([^>]*)>; rel="next"')

Query = Annotated[
    str,
    typer.Argument(help="A query in the query language; without a query, every event.", autocompletion=complete.query),
]
Fields = Annotated[
    str | None,
    typer.Option(
        help="Write only these fields, separated by commas, such as createdAt,message,data.level.",
        autocompletion=complete.fields,
    ),
]
Template = Annotated[str, typer.Option(help="Form of a line, such as '{createdAt} {message} {data.level}'.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, one document on each line.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: eventsvc search \"message ct 'buyer'\" --since 1h")(search)
    app.command(epilog="Example: eventsvc tail \"component eq 'orders'\"")(tail)
    app.command(epilog="Example: eventsvc context 8e2c512e-1c1e-4c7f-9c64-5f0b7f0a2d11 --same component")(context)
    app.command("open", epilog="Example: eventsvc open \"email eq 'diego@chefhero.com'\"")(open_page)


def search(
    query: Query = "",
    *,
    since: Annotated[
        str | None, typer.Option(help="Find only events that are not older: 15m, 1h, 7d, or a date.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most events; 0: all.")] = 100,
    oldest: Annotated[bool, typer.Option("--oldest", help="Write the oldest events first.")] = False,
    order_by: Annotated[
        Time, typer.Option(help="Order by the time at which events were stored, or happened.")
    ] = Time.CREATED,
    fields: Fields = None,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Write CSV; the first line has the names of the fields.")
    ] = False,
    template: Template = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write nothing, and only set the exit code.")] = False,
    tz: Tz = "UTC",
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Find events, newest first. Exit code 0: found; 1: nothing found; 2: wrong usage; 3: the service failed."""
    parameters = {"order": "asc" if oldest else "desc", "orderBy": str(order_by), "tz": tz}
    if asked := restrict(query, since, order_by):
        parameters["q"] = asked
    with service(url, key, data) as opened:
        if quiet:
            found = len(opened.get("/event", parameters | {"limit": "1"}))
        elif as_csv:
            found = _copy_csv(opened, parameters, limit, fields)
        else:
            found = _show(opened, parameters, limit, as_json=as_json, style=_style(query, fields, template, order_by))
        if not found and not quiet:
            _tell_missing_paths(opened, query, tz)
    if not found:
        raise typer.Exit(NOTHING_FOUND)


def _tell_missing_paths(opened: Service, query: str, tz: str) -> None:
    """Name the paths of the query that occur in no event, because a path may be misspelt."""
    if "data" not in query:
        return
    for one in opened.get("/query", {"q": query, "tz": tz, "paths": "true"})["paths"]:
        if one["exists"] is False:
            near = f"; there is {', '.join(one['near'])}" if one["near"] else ""
            print(f"eventsvc: no event has {one['path']}{near}", file=sys.stderr)


def _style(query: str, fields: str | None, template: str, time: str = Time.CREATED) -> show.Style:
    names = tuple(name.strip() for name in fields.split(",")) if fields else ()
    return show.Style(show.wants_colour(sys.stdout), names, template, show.needles(query), time)


def _show(opened: Service, parameters: dict[str, str], limit: int, *, as_json: bool, style: show.Style) -> int:
    found = 0
    with show.pager() as out:
        for event in pages(opened, parameters, limit):
            _write(out, json.dumps(event, ensure_ascii=False) if as_json else show.line(event, style))
            found += 1
    return found


def _write(out: IO[str], text: str) -> None:
    out.write(text + "\n")


def pages(opened: Service, parameters: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Give the events that match, at most ``limit``; 0 means all. The events are read page by page."""
    left = limit or sys.maxsize
    path, given = "/event", {**parameters, "limit": str(min(left, _PAGE))}
    while left:
        answer = opened.request("GET", path, given)
        events = json.loads(answer.data)
        yield from events[:left]
        left -= len(events[:left])
        follow = _NEXT.search(answer.headers.get("Link", ""))
        if follow is None:
            return
        path, given = follow[1], {}


def _copy_csv(opened: Service, parameters: dict[str, str], limit: int, fields: str | None) -> int:
    given = parameters | ({"limit": str(limit)} if limit else {}) | ({"fields": fields} if fields else {})
    count = -1  # the first line holds the names
    for line in opened.lines("/event", given, "text/csv"):
        sys.stdout.write(line.decode() + "\n")
        count += 1
    return count


def tail(
    query: Query = "",
    *,
    fields: Fields = None,
    as_json: Json = False,
    template: Template = "",
    tz: Tz = "UTC",
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show matching events as they are stored. After a break, the command connects again and misses no event."""
    style = _style(query, fields, template)
    with service(url, key, data) as opened:
        for event in follow(opened, {"tz": tz} | ({"q": query} if query else {})):
            _write(sys.stdout, json.dumps(event, ensure_ascii=False) if as_json else show.line(event, style))
            sys.stdout.flush()


def follow(opened: Service, parameters: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Give the events of the live stream, for ever. After a break, the stream resumes after the last event.

    Raises:
        ServiceError: the service refuses the request. While the service is away, the function waits.
    """
    last, failures = "", 0
    while True:
        try:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            answer = opened.request("GET", "/event/stream", parameters, headers=headers, stream=True)
            if failures:
                print("eventsvc: resumed, nothing was missed" if last else "eventsvc: connected", file=sys.stderr)
            failures = 0
            for event_id, event in _events(answer, opened.url):
                last = event_id or last
                if event is not None:
                    yield event
        except ServiceError as exc:
            if exc.status and exc.status < 500:  # noqa: PLR2004
                raise
            if not failures:
                print(f"eventsvc: {exc}; trying again", file=sys.stderr)
        time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
        failures += 1


def _events(answer: Any, url: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Read server-sent events (WHATWG HTML, 9.2.6): give the id, and the event; None for an error or an id alone."""
    fields: dict[str, str] = {}
    for raw in read_lines(answer, url):
        name, _, value = raw.decode().partition(":")
        if raw:
            fields[name] = value.removeprefix(" ")
            continue
        is_event = "data" in fields and fields.get("event", "message") == "message"
        yield fields.get("id", ""), json.loads(fields["data"]) if is_event else None
        fields = {}


def context(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the event.")],
    *,
    before: Annotated[int, typer.Option(min=0, help="Most events before this event.")] = 20,
    after: Annotated[int, typer.Option(min=0, help="Most events after this event.")] = 20,
    same: Annotated[
        str,
        typer.Option(
            help="Show only events with the same component, email, environment or data.path.",
            autocompletion=complete.groups,
        ),
    ] = "",
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show the events just before and just after an event, oldest first."""
    style = show.Style(show.wants_colour(sys.stdout))
    parameters = {"before": str(before), "after": str(after)} | ({"same": same} if same else {})
    with service(url, key, data) as opened:
        found = opened.get(f"/event/{event_id}/context", parameters)
        for event in (*found["before"], found["event"], *found["after"]):
            chosen = "▶ " if event["id"] == found["event"]["id"] else "  "
            _write(sys.stdout, json.dumps(event, ensure_ascii=False) if as_json else chosen + show.line(event, style))


def open_page(query: Query = "", *, url: Url = None, data: Data = None) -> None:
    """Open the page of the service in a browser."""
    import webbrowser
    from urllib.parse import urlencode

    with service(url, None, data) as opened:
        address = opened.url + "/" + (f"?{urlencode({'q': query})}" if query else "")
    print(address)
    with suppress(webbrowser.Error):
        webbrowser.open(address)
