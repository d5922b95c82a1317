"""GET /query: explain a query, and show the queries for both stores."""

from __future__ import annotations

import time
from typing import Any, assert_never

import falcon
import orjson
from falcon.asgi import Request, Response

from eventsvc.api.access import visible
from eventsvc.api.parameters import plain_parameters, yes_or_no
from eventsvc.event import format_nanoseconds, format_time
from eventsvc.query import ast
from eventsvc.query.render import render
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_sql import to_sql
from eventsvc.search.paths import look_up
from eventsvc.search.query_thread import QueryThread
from eventsvc.search.search import Search

PARAMETERS = ("q", "tz", "paths")


class QueryResource:
    """The resource of /query."""

    types = (falcon.MEDIA_JSON,)

    def __init__(self, query_thread: QueryThread, search: Search) -> None:
        self._query_thread, self._search = query_thread, search

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the explanation of q."""
        given = plain_parameters(req, PARAMETERS)
        text, tz, now = given.get("q", ""), given.get("tz", "UTC"), round(time.time() * 1000)
        query_thread = self._query_thread
        resp.set_header("Cache-Control", "no-store")
        resp.content_type = falcon.MEDIA_JSON
        if not yes_or_no(given, "paths"):
            resp.data = await query_thread.run(
                text, lambda: _write(explain(query_thread.parse(text, now=now, tz=tz), now=now, tz=tz))
            )
            return
        node = await query_thread.run(text, lambda: query_thread.parse(text, now=now, tz=tz))
        named = await look_up(self._search, node, lambda part: visible(req, part))
        paths = [{"path": one.path, "exists": one.exists, "near": one.near} for one in named]
        resp.data = await query_thread.run(text, lambda: _write(explain(node, now=now, tz=tz) | {"paths": paths}))


def _write(explained: dict[str, Any]) -> bytes:
    return orjson.dumps(explained, default=_digits)


def _digits(number: Any) -> orjson.Fragment:
    """Write a Decimal."""
    return orjson.Fragment(str(number))


def explain(node: ast.Node, *, now: int, tz: str) -> dict[str, Any]:
    """Explain a query; times are resolved at ``now`` in the zone ``tz``.

    ``elasticsearch`` is null if no query on the index has exactly this meaning. The search then runs in PostgreSQL.
    """
    text, parameters = to_sql(node)
    return {
        "query": render(node),
        "now": format_time(now),
        "tz": tz,
        "tree": tree(node),
        "elasticsearch": to_elasticsearch(node),
        "sql": {"text": text, "parameters": parameters},
    }


def tree(node: ast.Node) -> dict[str, Any]:  # noqa: PLR0911  (one for each node)
    """Write the AST as JSON."""
    match node:
        case ast.And(operands):
            return {"and": [tree(operand) for operand in operands]}
        case ast.Or(operands):
            return {"or": [tree(operand) for operand in operands]}
        case ast.Not(operand):
            return {"not": tree(operand)}
        case ast.Created(start, end):
            bounds = {"from": start, "before": end}
            given = {name: format_time(bound) for name, bound in bounds.items() if bound is not None}
            return {"field": "createdAt", **given}
        case ast.Occurred(start, end):
            bounds = {"from": start, "before": end}
            given = {name: format_nanoseconds(bound) for name, bound in bounds.items() if bound is not None}
            return {"field": "occurredAt", **given}
        case ast.Equal(subject, value):
            return _comparison(subject, "eq", _plain(value))
        case ast.In(subject, values):
            return _comparison(subject, "in", [_plain(value) for value in values])
        case ast.Contains(subject, needle):
            return _comparison(subject, "ct", needle)
        case ast.StartsWith(subject, needle):
            return _comparison(subject, "sw", needle)
        case ast.Range(path, order, bound):
            return _comparison(path, str(order), _plain(bound))
        case ast.Exists(subject):
            return _comparison(subject, "exists", True)
        case _:
            assert_never(node)


def _comparison(subject: ast.Subject, operator: str, value: Any) -> dict[str, Any]:
    if isinstance(subject, ast.Name):
        return {"field": subject.name, operator: value}
    return {"field": "data", "path": list(subject.keys), operator: value}


def _plain(value: ast.Value) -> Any:
    return None if isinstance(value, ast.Null) else value.value
