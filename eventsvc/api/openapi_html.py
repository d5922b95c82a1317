"""Write the description of the API as a page for people."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventsvc.api.openapi_parts import Json


def render_html(document: Json) -> str:
    """Write the description as one page, without scripts."""
    parts = [
        _render_operation(route, method, operation)
        for route, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    about = escape(document["info"]["description"])
    return f"{_HEAD}<h1>eventsvc</h1><p>{about}</p><p><a href=openapi.json>openapi.json</a></p>{''.join(parts)}"


_HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>eventsvc: the API</title>"
    "<meta name=viewport content='width=device-width'><style>:root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
    "code,h2{font-family:ui-monospace,monospace}</style>"
)


def _render_operation(route: str, method: str, operation: Json) -> str:
    right = operation.get("x-right", "")
    needs = f"<p>Needs a key with the right <code>{right}</code>.</p>" if right else ""
    rows = "".join(_row(one) for one in operation["parameters"])
    table = f"<table><tr><th>parameter<th>what<th>values</tr>{rows}</table>" if rows else ""
    statuses = ", ".join(
        f"{status} {escape(answer['description'])}"
        for status, answer in operation["responses"].items()
        if status != "default"
    )
    return (
        f"<section><h2 id={operation['operationId']}>{method.upper()} {escape(route)}</h2>"
        f"<p>{escape(operation['summary'])}</p>{needs}{table}"
        f"<p>Answers: {statuses}; or a <a href=problems>problem</a>.</p></section>"
    )


def _row(one: Json) -> str:
    return (
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one.get('description', ''))}"
        f"<td>{escape(_values(one['schema']))}</tr>"
    )


def _values(schema: Json) -> str:
    if "enum" in schema:
        found = " or ".join(schema["enum"])
    elif "maximum" in schema:
        found = f"{schema['minimum']} to {schema['maximum']:,}"
    else:
        found = str(schema.get("format", schema.get("type", "")))
    default: Any = schema.get("default")
    return found if default is None else f"{found} (default {default})"
