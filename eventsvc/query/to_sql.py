"""AST → a boolean SQL expression over table event's columns, and its parameters.

Every literal is a parameter, the keys of data included. The names of columns come from fields.py alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, assert_never

from eventsvc.event import format_time
from eventsvc.fields import ANY, FIELDS, TEXTS, Kind
from eventsvc.limits import DATA_DEPTH
from eventsvc.query import ast
from eventsvc.query.times import clamp_nanoseconds
from eventsvc.text.fold import fold

Sql = tuple[str, list[Any]]

_ORDERS = {ast.Order.GT: ">", ast.Order.GTE: ">=", ast.Order.LT: "<", ast.Order.LTE: "<="}
_MOST_JOINED = 4  # keys of a path: such a path can be read in eight ways


def to_sql(node: ast.Node) -> Sql:
    """Compile a node to SQL with ``%s`` placeholders and the values of the placeholders, in order."""
    match node:
        case ast.And(operands):
            return _joined(" AND ", operands)
        case ast.Or(operands):
            return _joined(" OR ", operands)
        case ast.Not(operand):
            text, values = to_sql(operand)
            return f"NOT ({text})", values
        case ast.Created(start, end):
            return _created(start, end)
        case ast.Occurred(start, end):
            return _occurred(start, end)
        case _:
            return _on_subject(node.subject, node)


def find_routing(node: ast.Node) -> dict[str, str]:
    """Give the values by column that every matching event has, for the columns by which a log may be distributed."""
    return {
        FIELDS[one.subject.name].column: one.value.value
        for one in (node.operands if isinstance(node, ast.And) else (node,))
        if isinstance(one, ast.Equal)
        and isinstance(one.subject, ast.Name)
        and isinstance(one.value, ast.Text)
        and one.subject.name in ("component", "email")
    }


def _on_subject(subject: ast.Subject, node: ast.Comparison) -> Sql:
    if isinstance(subject, ast.Path):
        return _on_data(subject, node)
    return _anywhere(node) if subject.name == ANY.name else _on_column(subject.name, node)


def _joined(operator: str, operands: tuple[ast.Node, ...]) -> Sql:
    parts = [to_sql(operand) for operand in operands]
    return operator.join(f"({text})" for text, _ in parts), [value for _, values in parts for value in values]


def _created(start: int | None, end: int | None) -> Sql:
    bounds = [(">=", start), ("<", end)]
    given = [(sign, format_time(bound)) for sign, bound in bounds if bound is not None]
    return " AND ".join(f"created_at {sign} %s::timestamptz" for sign, _ in given), [bound for _, bound in given]


def _occurred(start: int | None, end: int | None) -> Sql:
    given = [(sign, clamp_nanoseconds(bound)) for sign, bound in ((">=", start), ("<", end)) if bound is not None]
    return " AND ".join(f"{FIELDS['occurredAt'].column} {sign} %s" for sign, _ in given), [bound for _, bound in given]


def _on_column(name: str, node: ast.Comparison) -> Sql:
    field = FIELDS[name]
    column, cast = field.column, "::uuid" if field.kind is Kind.UUID else ""
    match node:
        case ast.Equal(_, value):
            return f"{column} = %s{cast}", [_plain(value)]
        case ast.In(_, values):
            return f"{column} = ANY(%s{cast and '::uuid[]'})", [[_plain(value) for value in values]]
        case ast.Contains() | ast.StartsWith():
            return f"event_fold({column}) LIKE %s", [_pattern(node)]
        case ast.Exists():
            return "true", []
        case ast.Range() | ast.Created() | ast.Occurred():
            raise AssertionError("ranges are for data, spans for times")
        case _:
            assert_never(node)


def _pattern(node: ast.Contains | ast.StartsWith) -> str:
    start = "%" if isinstance(node, ast.Contains) else ""
    return f"{start}{_escape_like(fold(node.needle))}%"


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _plain(value: ast.Value) -> Any:
    return None if isinstance(value, ast.Null) else value.value


def _anywhere(node: ast.Comparison) -> Sql:
    """Compare every text of the event: the text fields, and all values of data (numbers by their digits)."""
    parts = [_on_column(name, node) for name in TEXTS] + [_on_data(ast.Path(()), ast.on_data(node))]
    return " OR ".join(f"({text})" for text, _ in parts), [value for _, values in parts for value in values]


def _on_data(path: ast.Path, node: ast.Comparison) -> Sql:
    text, values = _values_test(node, _STRINGS if path.keys else _WITH_DIGITS)
    source, place = _values_at(path)
    return f"EXISTS (SELECT FROM {source} WHERE {text})", [*place, *values]


def _values_at(path: ast.Path) -> Sql:
    """Build the FROM item that gives the values at a path, one value a row."""
    if not path.keys:
        return "jsonb_path_query(data, '$.**') AS value", []
    if len(path.keys) > _MOST_JOINED or any(map(ast.is_array_index, path.keys)):
        return "event_values(data, %s) AS value", [".".join(path.keys)]
    source = "unnest(%s::jsonpath[]) AS path, jsonb_path_query(data, path) AS value"
    return source, [[_json_path(keys) for keys in _joined_keys(path.keys)]]


def _joined_keys(keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """List all ways to read a path: each dot is a step, or part of a key."""
    for size in range(1, len(keys)):
        yield from ((".".join(keys[:size]), *rest) for rest in _joined_keys(keys[size:]))
    yield (".".join(keys),)


def _json_path(keys: tuple[str, ...]) -> str:
    """Write a jsonpath to all values at a path.

    ``[*]`` unwraps an array and leaves any other value as it is. The jsonpath repeats ``[*]`` as often as arrays can
    be nested.
    """
    unwrap = "[*]" * (DATA_DEPTH - len(keys) + 1)
    return "$" + unwrap + "".join(f".{json.dumps(key, ensure_ascii=False)}{unwrap}" for key in keys)


# Only CASE keeps PostgreSQL from trying the cast on a value of another type first.
_NUMBER = "CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric {} END"
_TEXT = "CASE WHEN jsonb_typeof(value) = 'string' THEN (value #>> '{{}}') {} END"
_FOLDED = "CASE WHEN jsonb_typeof(value) IN {} THEN event_fold(value #>> '{{}}') LIKE %s END"
_STRINGS, _WITH_DIGITS = "('string')", "('string', 'number')"


def _values_test(node: ast.Comparison, shown: str) -> Sql:
    match node:
        case ast.Equal(_, value):
            return _any_of((value,))
        case ast.In(_, values):
            return _any_of(values)
        case ast.Contains() | ast.StartsWith():
            return _FOLDED.format(shown), [_pattern(node)]
        case ast.Range(_, order, ast.Number(number)):
            return _NUMBER.format(f"{_ORDERS[order]} %s::numeric"), [number]
        case ast.Range(_, order, bound):
            return _TEXT.format(f'COLLATE "C" {_ORDERS[order]} %s'), [bound.value]
        case ast.Exists():
            return "true", []
        case ast.Created() | ast.Occurred():
            raise AssertionError("spans are for times")
        case _:
            assert_never(node)


def _any_of(values: tuple[ast.Value, ...]) -> Sql:
    numbers = [value.value for value in values if isinstance(value, ast.Number)]
    texts = [value.value for value in values if isinstance(value, ast.Text)]
    words = [_json_word(value) for value in values if isinstance(value, ast.Boolean | ast.Null)]
    tests = [
        (_NUMBER.format("= ANY(%s::numeric[])"), numbers),
        (_TEXT.format("= ANY(%s)"), texts),
        ("value = ANY(%s::jsonb[])", words),
    ]
    given = [(text, found) for text, found in tests if found]
    return " OR ".join(text for text, _ in given), [found for _, found in given]


def _json_word(value: ast.Boolean | ast.Null) -> str:
    if isinstance(value, ast.Null):
        return "null"
    return "true" if value.value else "false"


def data_rows(path: ast.Path) -> Sql:
    """Build a subquery of the values at a path, with one column ``value`` and one row an array element."""
    source, place = _values_at(path)
    return f"(SELECT value FROM {source})", place  # noqa: S608  (one of three constants)
