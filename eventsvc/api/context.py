"""GET /event/{id}/context: the events just before and just after an event."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import falcon
import orjson

from eventsvc.api.access import visible
from eventsvc.api.events import read_id
from eventsvc.api.export import pick
from eventsvc.api.find_options import link
from eventsvc.api.parameters import plain_parameters, read_fields, read_subjects, whole_number
from eventsvc.errors import InvalidParameter
from eventsvc.query import ast
from eventsvc.query.to_predicate import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from falcon.asgi import Request, Response

    from eventsvc.event import Event
    from eventsvc.search.context import Context, Neighbours
    from eventsvc.search.search import Compiled, Search

PARAMETERS = ("before", "after", "same", "fields")
NEIGHBOURS, MOST = 20, 500
_MOST_SAME = 8


class ContextResource:
    """The resource of /event/{id}/context."""

    types = (falcon.MEDIA_JSON,)

    def __init__(self, search: Search, neighbours: Neighbours) -> None:
        self._search, self._neighbours = search, neighbours

    async def on_get(self, req: Request, resp: Response, event_id: str) -> None:
        """Show an event between its neighbours."""
        given = plain_parameters(req, PARAMETERS)
        before, after = (whole_number(given, name, NEIGHBOURS, 0, MOST) for name in ("before", "after"))
        fields, same = read_fields(given), read_subjects(given, "same", most=_MOST_SAME)
        event = await self._search.by_id(read_id(event_id), visible(req))
        # An array of the event may have thousands of values.
        query = await req.context.query_thread.run(event.data if same else "", lambda: _select(req, event, same))
        context = await self._neighbours.of(event, query, before=before, after=after)
        if found := _links(req, context, given, before, after):
            resp.set_header("Link", found)
        resp.set_header("Cache-Control", "private, no-cache")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(
            {
                "before": [pick(each, fields) for each in context.before],
                "event": pick(event, fields),
                "after": [pick(each, fields) for each in context.after],
            }
        )


def _select(req: Request, event: Event, same: Mapping[str, ast.Subject]) -> Compiled:
    """Compile the query for the events that may be neighbours."""
    shared = [_shared(event, name, subject) for name, subject in same.items()]
    return visible(req, ast.conjunction(shared) if shared else None)


def _shared(event: Event, name: str, subject: ast.Subject) -> ast.Node:
    """Build the condition that a neighbour shares a value with the event, or has no value if the event has none."""
    if isinstance(subject, ast.Name):
        return ast.Equal(subject, ast.Text(event.to_json()[subject.name]))
    values = Candidate(event).at(subject.keys)
    if not values:
        return ast.Not(ast.Exists(subject))
    if not (plain := list(values.plain)):
        raise InvalidParameter("same", f"this event has an object at {name}; name a place inside of it")
    return ast.In(subject, tuple(dict.fromkeys(map(_value, plain))))


def _value(value: Any) -> ast.Value:
    match value:
        case None:
            return ast.Null()
        case bool():
            return ast.Boolean(value)
        case str():
            return ast.Text(value)
        case _:
            return ast.Number(Decimal(value))


def _links(req: Request, context: Context, given: Mapping[str, str], before: int, after: int) -> str:
    """Write links from the outermost events to further neighbours."""
    found = []
    if context.more_before:
        outermost = (*context.before, context.event)[0]
        found.append(_link(req, outermost, {**given, "before": str(before or NEIGHBOURS), "after": "0"}, "prev"))
    if context.more_after:
        outermost = (context.event, *context.after)[-1]
        found.append(_link(req, outermost, {**given, "before": "0", "after": str(after or NEIGHBOURS)}, "next"))
    return ", ".join(found)


def _link(req: Request, event: Event, parameters: Mapping[str, str], relation: str) -> str:
    start, _, _ = req.path.rpartition("/event/")
    return link(f"{start}/event/{event.id}/context", parameters, relation)
