"""GET /event/{id}/context: what happened just before and just after an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon
import orjson

from eventsvc.api.access import visible
from eventsvc.api.find import pick, read_id
from eventsvc.api.page import link, nearest, plain_parameters, read_fields, whole_number
from eventsvc.errors import InvalidParameter
from eventsvc.fields import FIELDS, Kind
from eventsvc.query import ast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from falcon.asgi import Request, Response

    from eventsvc.event import Event
    from eventsvc.search.context import Context, Neighbours
    from eventsvc.search.search import Search

PARAMETERS = ("before", "after", "same", "fields")
NEIGHBOURS, MOST = 20, 500
SAME = tuple(field.name for field in FIELDS.values() if field.kind is Kind.TEXT)


class ContextResource:
    """The resource."""

    types = (falcon.MEDIA_JSON,)

    def __init__(self, search: Search, neighbours: Neighbours) -> None:
        self._search, self._neighbours = search, neighbours

    async def on_get(self, req: Request, resp: Response, event_id: str) -> None:
        """Show an event between its neighbours."""
        given = plain_parameters(req, PARAMETERS)
        before, after = (whole_number(given, name, NEIGHBOURS, 0, MOST) for name in ("before", "after"))
        fields, same = read_fields(given), _read_same(given)
        event = await self._search.by_id(read_id(event_id), visible(req))
        query = visible(req, ast.conjunction([_shared(event, name) for name in same]) if same else None)
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


def _read_same(given: Mapping[str, str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in given.get("same", "").split(",") if name.strip()))
    for name in names:
        if name not in SAME:
            raise InvalidParameter("same", f"neighbours cannot have the same {name!r}{nearest(name, SAME)}")
    return names


def _shared(event: Event, name: str) -> ast.Equal:
    return ast.Equal(ast.Name(name), ast.Text(event.to_json()[name]))


def _links(req: Request, context: Context, given: Mapping[str, str], before: int, after: int) -> str:
    """Lead from the outermost events further out, by as many as were asked for on that side."""
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
