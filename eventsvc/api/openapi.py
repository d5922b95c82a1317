"""GET /openapi.json and GET /docs: a description of the API, made from the tables that also validate requests.

OpenAPI 3.1 does not know the method QUERY (RFC 10008), so the description of GET /event mentions it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import falcon
import orjson

from eventsvc.api import context, fields, find_options, media, query, stats, store_options, stream, views
from eventsvc.api.access import ROUTES
from eventsvc.api.openapi_html import render_html
from eventsvc.api.openapi_parts import EVENT, HEADERS, KEY_ID, SCHEMAS, Json, header, parameter
from eventsvc.api.problem_types import all_problems
from eventsvc.api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

_READ_HEADERS = ("Eventsvc-Source", "Eventsvc-Reason", "Eventsvc-Watermark", "Eventsvc-Lag")
_LIMITED = ("RateLimit", "RateLimit-Policy")


@dataclass(frozen=True, slots=True)
class _Op:
    """One method of one route.

    Attributes:
        name: a unique name for generated clients.
        summary: one sentence about the operation.
        answers: for each status, its meaning, and for each media type the name of the schema ("" for any text).
        parameters: the names of the query parameters.
        headers: the names of the headers of a good answer.
        body: for each media type of the body, the name of the schema.
    """

    name: str
    summary: str
    answers: dict[int, tuple[str, dict[str, str]]]
    parameters: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: dict[str, str] | None = None


def _ok(schema: str, *, meaning: str = "as asked") -> dict[int, tuple[str, dict[str, str]]]:
    return {200: (meaning, {media.JSON: schema})}


_UNCHANGED: tuple[str, dict[str, str]] = ("nothing has changed since If-None-Match", {})
_STORED = {media.JSON: "Event"}

OPERATIONS: dict[tuple[str, str], _Op] = {
    ("/event", "POST"): _Op(
        "storeEvents",
        "Stores one event, an array of events, or one event a line; all or none. With shape=any, it takes other JSON"
        " and lines of text as well.",
        {
            201: ("stored; the event, or the count of many", {media.JSON: "StoredOne"}),
            200: ("dryRun, partial, or nothing to store", {media.JSON: "Stored"}),
        },
        store_options.PARAMETERS,
        ("Location",),
        {media.JSON: "Sent", media.NDJSON[0]: ""},
    ),
    ("/event", "GET"): _Op(
        "findEvents",
        "Finds events, a page at a time, or all as lines. Queries too long for a URL are the body of the method QUERY.",
        {200: ("the events", {media.JSON: "Events", media.NDJSON[0]: "", media.CSV: ""}), 304: _UNCHANGED},
        find_options.PARAMETERS,
        ("Link", "ETag", "X-Total-Count", *_READ_HEADERS),
    ),
    ("/event/{event_id}", "GET"): _Op("getEvent", "Shows one event.", _ok("Event")),
    ("/event/{event_id}/context", "GET"): _Op(
        "getContext", "Shows an event between its neighbours.", _ok("Context"), context.PARAMETERS, ("Link",)
    ),
    ("/event/fields", "GET"): _Op(
        "listPaths",
        "Lists the paths in data that matching events have.",
        _ok("Paths"),
        fields.PARAMETERS,
        ("Eventsvc-Examined", *_READ_HEADERS),
    ),
    ("/event/stats", "GET"): _Op(
        "countEvents", "Counts events over time and by their values.", _ok("Stats"), stats.PARAMETERS, _READ_HEADERS
    ),
    ("/event/stream", "GET"): _Op(
        "followEvents",
        "Sends events as they are stored, as server-sent events; the answer does not end.",
        {200: ("a stream", {stream.MEDIA_TYPE: ""})},
        stream.PARAMETERS,
    ),
    ("/erasure", "POST"): _Op(
        "eraseEvents",
        "Erases the events that match a query. There is no way back.",
        {
            200: ("done, or with dryRun what would be erased", {media.JSON: "Erasure"}),
            202: ("it goes on; ask at Location", {media.JSON: "Erasure"}),
        },
        (),
        ("Location",),
        {media.JSON: "Erasing"},
    ),
    ("/erasure", "GET"): _Op("listErasures", "Lists the newest erasures.", _ok("Erasures")),
    ("/erasure/{erasure_id}", "GET"): _Op("getErasure", "Says how far an erasure has come.", _ok("Erasure")),
    ("/key", "GET"): _Op("listKeys", "Lists every API key there ever was.", _ok("Keys")),
    ("/key", "POST"): _Op(
        "makeKey",
        "Makes an API key; its text is in this answer alone.",
        {201: ("made", {media.JSON: "MadeKey"})},
        body={media.JSON: "WantedKey"},
    ),
    ("/key/{key_id}", "DELETE"): _Op(
        "revokeKey", "Takes an API key back; within five seconds every process refuses it.", _ok("RevokedKeys")
    ),
    ("/key/{key_id}/rotation", "POST"): _Op(
        "rotateKey",
        "Makes an API key that may do the same; the old one stays good for a time.",
        {201: ("made", {media.JSON: "MadeKey"})},
        body={media.JSON: "Rotation"},
    ),
    ("/ticket", "POST"): _Op("makeTicket", "Makes a ticket that opens /event/stream for a minute.", _ok("Ticket")),
    ("/view", "GET"): _Op("listViews", "Lists the views of the page that are kept for everybody.", _ok("Views")),
    ("/view/{name}", "GET"): _Op("getView", "Shows one view.", _ok("View")),
    ("/view/{name}", "PUT"): _Op(
        "saveView", "Saves a view, in the place of the one of that name.", _ok("View"), body={media.JSON: "WantedView"}
    ),
    ("/view/{name}", "DELETE"): _Op("removeView", "Removes a view.", _ok("RemovedView")),
    ("/query", "GET"): _Op(
        "explainQuery", "Explains a query, and what each store is asked.", _ok("Explanation"), query.PARAMETERS
    ),
    ("/healthz", "GET"): _Op("isAlive", "Says that the process lives.", _ok("Health")),
    ("/readyz", "GET"): _Op(
        "isReady",
        "Says whether events can be stored.",
        {**_ok("Readiness"), 503: ("they cannot", {media.JSON: "Readiness"})},
    ),
    ("/metrics", "GET"): _Op(
        "getMetrics", "Gives counters and gauges for Prometheus.", {200: ("text", {"text/plain": ""})}
    ),
    ("/problems", "GET"): _Op("listProblems", "Tells what each problem means.", {200: ("a page", {"text/html": ""})}),
    ("/openapi.json", "GET"): _Op("getOpenapi", "Describes this API.", {200: ("OpenAPI 3.1", {media.JSON: ""})}),
    ("/docs", "GET"): _Op("getDocs", "Describes this API for people.", {200: ("a page", {"text/html": ""})}),
}


def build() -> Json:
    """Build the description."""
    paths: Json = {}
    for (route, method), op in OPERATIONS.items():
        paths.setdefault(route, {})[method.lower()] = _operation(route, method, op)
    return {
        "openapi": "3.1.1",
        "info": {"title": "eventsvc", "version": "1", "description": _ABOUT, "license": {"name": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS
            | {
                "Sent": {
                    "anyOf": [{"$ref": "#/components/schemas/NewEvent"}, {"$ref": "#/components/schemas/NewEvents"}]
                },
                "StoredOne": {
                    "anyOf": [{"$ref": "#/components/schemas/Event"}, {"$ref": "#/components/schemas/Stored"}]
                },
            },
            "headers": {name: header(name) for name in HEADERS},
            "responses": {"Problem": _problem()},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "bearerFormat": "ev_…"},
                "password": {"type": "http", "scheme": "basic", "description": "any user, the key as password"},
            },
        },
    }


_ABOUT = (
    "Store events and find them again, exactly. A key is needed unless none was ever made;"
    " `x-right` names the right that it must have. Every error is a problem (RFC 9457)."
)


def _operation(route: str, method: str, op: _Op) -> Json:
    right = ROUTES.get(route, {}).get(method)
    places = [name.strip("{}") for name in route.split("/") if name.startswith("{")]
    found: Json = {
        "operationId": op.name,
        "summary": op.summary,
        "parameters": [_place(name) for name in places]
        + [parameter(name, route=route.rpartition("/")[2]) for name in op.parameters],
        "responses": {str(status): _answer(op, status) for status in op.answers}
        | {"default": {"$ref": "#/components/responses/Problem"}},
        "security": [] if right is None else [{"key": []}, {"password": []}],
    }
    if right is not None:
        found["x-right"] = str(right)
    if op.body is not None:
        found["requestBody"] = {"required": True, "content": _content(op.body)}
    if op.name == "storeEvents":
        found["responses"]["201"]["links"] = {"event": _link("getEvent"), "context": _link("getContext")}
    return found


def _link(operation: str) -> Json:
    return {"operationId": operation, "parameters": {"event_id": "$response.body#/id"}}


def _place(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": _PLACES.get(name, {"type": "string", "format": "uuid"}),
    }


_PLACES: dict[str, Json] = {
    "key_id": {"type": "string", "pattern": KEY_ID},
    "name": {"type": "string", "minLength": 1, "maxLength": views.LONGEST_NAME},
}


def _answer(op: _Op, status: int) -> Json:
    meaning, kinds = op.answers[status]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in (*op.headers, *_LIMITED)}
    return {"description": meaning, "headers": headers} | ({"content": _content(kinds)} if kinds else {})


def _content(kinds: dict[str, str]) -> Json:
    return {
        kind: {"schema": {"$ref": f"#/components/schemas/{name}"} if name else {}}
        | ({"examples": {"order": {"value": EVENT}}} if name == "Sent" else {})
        for kind, name in kinds.items()
    }


def _problem() -> Json:
    kinds = "\n".join(f"- `{one.type}`: {one.status} {one.title}" for one in all_problems())
    return {
        "description": f"A problem; what each means stands at /problems.\n\n{kinds}",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("WWW-Authenticate", "Retry-After")},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


class OpenApiResource:
    """The resources of /openapi.json and /docs. The description is built at the first request."""

    @cached_property
    def _document(self) -> Json:
        return build()

    @cached_property
    def _json(self) -> bytes:
        return orjson.dumps(self._document)

    @cached_property
    def _html(self) -> str:
        return render_html(self._document)

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer with the description in JSON."""
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", "no-cache")
        resp.data = self._json

    async def on_get_docs(self, _req: Request, resp: Response) -> None:
        """Answer with the description as one page of HTML."""
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        resp.text = self._html
