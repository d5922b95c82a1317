"""GET /event/fields: which paths the data of matching events has."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import falcon
import orjson

from eventsvc.api.events import describe_source
from eventsvc.api.parameters import choice, plain_parameters, read_query, whole_number
from eventsvc.search.paths import PathFacts, find_paths

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.search.search import Search

PARAMETERS = ("q", "tz", "asOf", "newest", "consistency")
_NEWEST, _MOST = 10_000, 100_000


class FieldsResource:
    """The resource of /event/fields."""

    types = (falcon.MEDIA_JSON,)

    def __init__(self, search: Search) -> None:
        self._search = search

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the paths."""
        given = plain_parameters(req, PARAMETERS)
        query = await read_query(req, given, round(time.time() * 1000))
        newest = whole_number(given, "newest", _NEWEST, 1, _MOST)
        strong = choice(given, "consistency", ("strong", "eventual")) == "strong"
        paths = await find_paths(self._search, query, newest, strong=strong)
        describe_source(resp, paths.provenance)
        resp.set_header("Eventsvc-Examined", f"{'newest' if paths.more else 'all'} {paths.examined}")
        resp.set_header("Cache-Control", "private, no-cache")
        resp.content_type = falcon.MEDIA_JSON
        # PERF: a thread does this, because 10,000 paths take 0.1 s.
        resp.data = await asyncio.to_thread(_write, paths.found)


def _write(paths: dict[str, PathFacts]) -> bytes:
    return orjson.dumps([_render(path, found) for path, found in paths.items()])


def _render(path: str, found: PathFacts) -> dict[str, Any]:
    return {
        "path": path,
        "count": found.count,
        "types": dict(found.types.most_common()),
        "examples": [_exact(value) for _, value in found.examples],
    }


def _exact(value: Any) -> Any:
    """Write a number with all its digits."""
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    return orjson.Fragment(str(value)) if type(value) is int else value
