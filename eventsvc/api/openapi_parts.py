"""The parameters, headers and schemas of /openapi.json, made from the tables that also validate requests."""

from __future__ import annotations

from typing import Any

from eventsvc import limits
from eventsvc.access.rights import Right
from eventsvc.api import context, find_options, stats, views
from eventsvc.event import Event
from eventsvc.fields import FIELDS, SHORT, Kind
from eventsvc.search.counts import STEPS, UNITS

Json = dict[str, Any]

EVENT: Json = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "the buyer #123456 has placed an order",
    "data": {"order_id": 123, "amount": 300},
}
QUERY = "((email eq 'diego@chefhero.com') AND (createdAt gte '2018-1-1') AND (message ct 'buyer' ))"

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean", "default": False}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {"type": "string", "format": "date-time"}
_UUID: Json = {"type": "string", "format": "uuid"}


def number(least: int, most: int, default: int) -> Json:
    """Give the schema of a whole number between two bounds."""
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


def word(*options: str) -> Json:
    """Give the schema of a choice of words; the first is the default."""
    return {"type": "string", "enum": list(options), "default": options[0]}


# A sentence about each query parameter, and its schema. The module of a route lists the parameters of the route.
PARAMETERS: dict[str, tuple[str, Json]] = {
    "q": ("a query; without it, every event", {"type": "string", "examples": [QUERY]}),
    "tz": ("time zone of dates in q, and of days", {"type": "string", "default": "UTC", "examples": ["Europe/Berlin"]}),
    "asOf": (
        "only events up to this seq: the same answer whenever it is asked; 422 if the log has not reached it",
        {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    ),
    "limit": ("at most so many", number(1, find_options.MOST, find_options.LIMIT)),
    "order": ("newest or oldest first", word("desc", "asc")),
    "orderBy": ("the time that events are ordered by", word("createdAt", "occurredAt")),
    "paths": ("say which places in data that q names no event has, and which are called alike", _FLAG),
    "cursor": ("where the last page ended; take it from the header Link, unchanged", _TEXT),
    "fields": (
        f"only these fields, separated by commas: {', '.join(FIELDS)}",
        {"type": "string", "examples": ["id,message"]},
    ),
    "count": ("say in X-Total-Count how many events match", _FLAG),
    "consistency": ("strong: with everything stored before the request", word("strong", "eventual")),
    "trailer": ("end a stream of lines with one that holds the count", _FLAG),
    "download": (
        "give the answer as a file, in this form whatever Accept says",
        word("false", "true", "json", "ndjson", "csv"),
    ),
    "interval": ("count by stretches of time of this length", {"type": "string", "enum": ["", *STEPS, *UNITS]}),
    "time": ("which time is counted by", word(*stats.TIMES)),
    "by": ("count the values of this field", {"type": "string", "examples": ["component"]}),
    "top": ("so many of the most frequent values", number(1, 1000, 10)),
    "distinct": ("count the different values of these fields", {"type": "string", "examples": ["email"]}),
    "numbers": (
        "least, greatest, sum and mean of these paths of data",
        {"type": "string", "examples": ["data.amount"]},
    ),
    "percentiles": ("which percentiles of numbers", {"type": "string", "examples": ["50,95,99"]}),
    "newest": ("look at so many of the newest matching events", number(1, 100_000, 10_000)),
    "before": ("at most so many older events", number(0, context.MOST, context.NEIGHBOURS)),
    "after": ("at most so many newer events", number(0, context.MOST, context.NEIGHBOURS)),
    "same": (
        "neighbours share the event's values of these fields and places in data",
        {"type": "string", "examples": ["component,data.trace"]},
    ),
    "lastEventId": ("go on after this event of a stream", _TEXT),
    "ticket": ("from POST /ticket, for those who cannot send a key", _TEXT),
    "partial": ("store the good events of many though others are bad", _FLAG),
    "sanitize": ("change what would be refused for its characters or length, and mark it", _FLAG),
    "dryRun": ("check, and store nothing", _FLAG),
    "shape": (
        "any: take records as loggers and shippers send them by default; then partial and sanitize are true by default",
        {"type": "string", "enum": ["any"]},
    ),
    **{
        name: (
            f"with shape=any, the {name} of records that lack one",
            {"type": "string", "maxLength": limits.LONGEST[name]},
        )
        for name in SHORT
    },
}
_OWN = {"stats": {"limit": ("another name of top", number(1, 1000, 10))}}

HEADERS: dict[str, tuple[str, Json]] = {
    "Link": ("the first page, and the next if there is one (RFC 8288)", _TEXT),
    "ETag": ("send it in If-None-Match to learn whether anything has changed", _TEXT),
    "Location": ("where to read it again", _TEXT),
    "X-Total-Count": ("how many events match, with count=true", _COUNT),
    "Eventsvc-Source": ("what the answer was made from", word("index+tail", "cache+tail", "index", "log", "sql")),
    "Eventsvc-Reason": ("why the index did not answer", _TEXT),
    "Eventsvc-Watermark": ("the last seq that the index held", _COUNT),
    "Eventsvc-Lag": ("how many seqs the index is behind", _COUNT),
    "Eventsvc-Examined": ("whether all that match were looked at, or only the newest, and how many", _TEXT),
    "WWW-Authenticate": ("how a key is sent", _TEXT),
    "Retry-After": ("seconds until it is worth another try", _COUNT),
    "RateLimit": ("how many more requests the key may send now", _TEXT),
    "RateLimit-Policy": ("how many requests the key may send in which time", _TEXT),
}


def parameter(name: str, *, route: str = "") -> Json:
    """Describe a query parameter."""
    description, schema = _OWN.get(route, {}).get(name) or PARAMETERS.get(name, ("", _TEXT))
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str) -> Json:
    """Describe a header of an answer."""
    description, schema = HEADERS[name]
    return {"description": description, "schema": schema}


def _object(properties: Json, *, needs: tuple[str, ...] | None = None, more: bool = False) -> Json:
    required = list(properties) if needs is None else list(needs)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _field(name: str) -> Json:
    match FIELDS[name].kind if name in FIELDS else Kind.TIME:
        case Kind.UUID:
            return _UUID
        case Kind.TIME:
            return _TIME
        case Kind.JSON:
            return {"description": f"any JSON: {limits.DATA_BYTES:,} bytes, {limits.DATA_DEPTH} levels"}
    return {"type": "string", "minLength": 1, "maxLength": limits.LONGEST.get(name, limits.MESSAGE)} | (
        {"format": "email"} if name == "email" else {}
    )


_STORED = tuple(Event(0, "", 0, 0, "", "", "", "", "0").to_json())
_SENT = tuple(name for name in _STORED if name not in {"id", "createdAt"})
_NEEDED = tuple(EVENT)[:4]
_EVENTS = _list(_ref("Event"))
_NULLABLE_TIME: Json = {"type": ["string", "null"], "format": "date-time"}

KEY_ID = "^ev_[0-9A-Za-z]{8}$"
_AGE: Json = {"type": "string", "pattern": "^([0-9]{1,5}[mhdw])?$", "examples": ["90d"]}
_RIGHTS: Json = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(map(str, Right))}}
_DEFAULTS: Json = {"type": "object", "additionalProperties": _TEXT}
_KEY: Json = {
    "id": {"type": "string", "pattern": KEY_ID},
    "name": _TEXT,
    "rights": _RIGHTS,
    "where": _TEXT,
    "defaults": _DEFAULTS,
    "rate": _TEXT,
    "state": {"type": "string", "enum": ["good", "revoked", "expired"]},
    "createdAt": _TIME,
    "expiresAt": _NULLABLE_TIME,
    "revokedAt": _NULLABLE_TIME,
    "lastUsedAt": _NULLABLE_TIME,
}

_ADDRESS: Json = {
    "address": {
        "type": "string",
        "maxLength": views.LONGEST_ADDRESS,
        "examples": ["q=component+eq+%27orders%27&last=7d"],
    }
}

SCHEMAS: Json = {
    "Event": _object({name: _field(name) for name in _STORED}, needs=()),
    "NewEvent": _object({name: _field(name) for name in _SENT} | {"occurredAt": _NULLABLE_TIME}, needs=_NEEDED)
    | {"examples": [EVENT]},
    "NewEvents": _list(_ref("NewEvent")),
    "Events": _EVENTS,
    "Stored": _object(
        {
            "count": _COUNT,
            "firstId": {"type": ["string", "null"], "format": "uuid"},
            "lastId": {"type": ["string", "null"], "format": "uuid"},
            "createdAt": _TIME | {"type": ["string", "null"]},
            "dryRun": {"type": "boolean"},
            "rejected": _COUNT,
            "sanitized": _COUNT,
            "errors": _list(_ref("Fault")),
        },
        needs=("count",),
    ),
    "Fault": _object({"line": _COUNT, "pointer": _TEXT, "detail": _TEXT}, needs=("pointer", "detail")),
    "Context": _object({"before": _EVENTS, "event": _ref("Event"), "after": _EVENTS}),
    "Stats": _object(
        {
            "count": _COUNT,
            "interval": {"type": "string", "enum": [*STEPS, *UNITS]},
            "tz": _TEXT,
            "buckets": _list(_object({"start": _TIME, "count": _COUNT}, more=True)),
            "by": {"type": ["string", "array"], "items": _TEXT},
            "top": _list(_object({"count": _COUNT}, more=True)),
            "other": _COUNT,
        },
        needs=("count",),
        more=True,
    ),
    "Paths": _list(_object({"path": _TEXT, "count": _COUNT, "types": {"type": "object"}, "examples": _list({})})),
    "Explanation": _object(
        {
            "query": _TEXT,
            "now": _TIME,
            "tz": _TEXT,
            "tree": {"type": "object"},
            "elasticsearch": {"type": ["object", "null"]},
            "sql": _object({"text": _TEXT, "parameters": _list({})}),
            "paths": _list(_object({"path": _TEXT, "exists": {"type": ["boolean", "null"]}, "near": _list(_TEXT)})),
        },
        needs=("query", "now", "tz", "tree", "elasticsearch", "sql"),
        more=True,
    ),
    "Erasing": _object(
        {
            "q": {"type": "string", "minLength": 1, "maxLength": 8192, "examples": ["email eq 'diego@chefhero.com'"]},
            "reason": {"type": "string", "minLength": 1, "maxLength": 500},
            "tz": {"type": "string", "default": "UTC"},
            "dryRun": _FLAG,
            "untilNow": _FLAG,
        },
        needs=("q", "reason"),
    ),
    "Erasure": _object(
        {
            "id": _UUID,
            "state": {"type": "string", "enum": ["running", "done"]},
            "count": _COUNT,
            "erased": _COUNT,
            "reason": _TEXT,
            "askedBy": _TEXT,
            "askedAt": _TIME,
            "finishedAt": _NULLABLE_TIME,
        },
        needs=(),
        more=True,
    ),
    "Erasures": _list(_ref("Erasure")),
    "WantedKey": _object(
        {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "examples": ["billing"]},
            "rights": _RIGHTS,
            "where": {"type": "string", "examples": ["component eq 'billing'"]},
            "defaults": _DEFAULTS,
            "rate": {"type": "string", "examples": ["100/s"]},
            "expires": _AGE,
        },
        needs=("name", "rights"),
    ),
    "Rotation": _object({"grace": _AGE | {"default": "24h"}}, needs=()),
    "MadeKey": _object({"key": _TEXT} | _KEY),
    "Keys": _list(_object(_KEY)),
    "RevokedKeys": _object({"revoked": _list(_TEXT)}),
    "WantedView": _object(_ADDRESS),
    "View": _object({"name": _TEXT, **_ADDRESS, "savedBy": _TEXT, "savedAt": _TIME}),
    "Views": _list(_ref("View")),
    "RemovedView": _object({"removed": _TEXT}),
    "Ticket": _object({"ticket": _TEXT, "expiresIn": _COUNT}),
    "Health": _object({"status": _TEXT}),
    "Readiness": _object({"status": _TEXT, "log": _TEXT, "index": _TEXT}, more=True),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _TEXT,
        },
        needs=("type", "title", "status"),
        more=True,
    ),
}
