"""AST → a boolean SQL expression over table event's columns, and its parameters.

Every literal, keys of data included, is a parameter; a column's name comes from fields.py alone.
"""

from __future__ import annotations

import json
from typing import Any, assert_never

from eventsvc.fields import FIELDS, Kind
from eventsvc.limits import DATA_DEPTH
from eventsvc.query import ast
from eventsvc.query.times import format_instant
from eventsvc.text.terms import fold

Sql = tuple[str, list[Any]]

_ORDERS = {ast.Order.GT: ">", ast.Order.GTE: ">=", ast.Order.LT: "<", ast.Order.LTE: "<="}


def to_sql(node: ast.Node) -> Sql:
    """Compile node: SQL with ``%s`` placeholders, and the values for them in order."""
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
        case _:
            if isinstance(node.subject, ast.Path):
                return _on_data(node.subject, _data_test(node))
            return _on_column(node.subject.name, node)


def _joined(operator: str, operands: tuple[ast.Node, ...]) -> Sql:
    parts = [to_sql(operand) for operand in operands]
    return operator.join(f"({text})" for text, _ in parts), [value for _, values in parts for value in values]


def _created(start: int | None, end: int | None) -> Sql:
    bounds = [(">=", start), ("<", end)]
    given = [(sign, format_instant(bound)) for sign, bound in bounds if bound is not None]
    return " AND ".join(f"created_at {sign} %s::timestamptz" for sign, _ in given), [bound for _, bound in given]


def _on_column(name: str, node: ast.Comparison) -> Sql:
    field = FIELDS[name]
    column, cast = field.column, "::uuid" if field.kind is Kind.UUID else ""
    match node:
        case ast.Equal(_, value):
            return f"{column} = %s{cast}", [_plain(value)]
        case ast.In(_, values):
            return f"{column} = ANY(%s{cast and '::uuid[]'})", [[_plain(value) for value in values]]
        case ast.Contains(_, needle):
            return f"{folded_column(column)} LIKE %s", [f"%{_escape_like(fold(needle))}%"]
        case ast.StartsWith(_, needle):
            return f"{folded_column(column)} LIKE %s", [f"{_escape_like(fold(needle))}%"]
        case ast.Exists():
            return "true", []
        case ast.Range() | ast.Created():
            raise AssertionError("ranges are for data, spans for createdAt")
        case _:
            assert_never(node)


def folded_column(column: str) -> str:
    """What ct and sw look at; the optional trigram indexes are on this very expression."""
    return f'lower({column} COLLATE "pg_c_utf8")'


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _plain(value: ast.Value) -> Any:
    return None if isinstance(value, ast.Null) else value.value


def _on_data(path: ast.Path, test: Sql) -> Sql:
    text, values = test
    if len(path.keys) > DATA_DEPTH:
        return "false", []
    return f"EXISTS (SELECT FROM jsonb_path_query(data, %s::jsonpath) AS value WHERE {text})", [
        _json_path(path),
        *values,
    ]


def _json_path(path: ast.Path) -> str:
    """A jsonpath to all values at a path.

    ``[*]`` gives an array's elements, and anything else as it is; there are as many as arrays can be nested.
    """
    unwrap = "[*]" * (DATA_DEPTH - len(path.keys) + 1)
    return "$" + unwrap + "".join(f".{json.dumps(key, ensure_ascii=False)}{unwrap}" for key in path.keys)


# CASE, because only it keeps PostgreSQL from trying the cast on a value of another type first.
_NUMBER = "CASE WHEN jsonb_typeof(value) = 'number' THEN value::float8 {} END"
_TEXT = "CASE WHEN jsonb_typeof(value) = 'string' THEN (value #>> '{{}}') {} END"
_FOLDED = "CASE WHEN jsonb_typeof(value) = 'string' THEN lower((value #>> '{}') COLLATE \"pg_c_utf8\") LIKE %s END"


def _data_test(node: ast.Equal | ast.In | ast.Contains | ast.StartsWith | ast.Range | ast.Exists) -> Sql:  # noqa: PLR0911  (one for each node)
    match node:
        case ast.Equal(_, value):
            return _any_of((value,))
        case ast.In(_, values):
            return _any_of(values)
        case ast.Contains(_, needle):
            return _FOLDED, [f"%{_escape_like(fold(needle))}%"]
        case ast.StartsWith(_, needle):
            return _FOLDED, [f"{_escape_like(fold(needle))}%"]
        case ast.Range(_, order, ast.Number(number)):
            return _NUMBER.format(f"{_ORDERS[order]} %s::float8"), [number]
        case ast.Range(_, order, bound):
            return _TEXT.format(f'COLLATE "C" {_ORDERS[order]} %s'), [bound.value]
        case ast.Exists():
            return "true", []
        case _:
            assert_never(node)


def _any_of(values: tuple[ast.Value, ...]) -> Sql:
    numbers = [value.value for value in values if isinstance(value, ast.Number)]
    texts = [value.value for value in values if isinstance(value, ast.Text)]
    words = [_json_word(value) for value in values if isinstance(value, ast.Boolean | ast.Null)]
    tests = [
        (_NUMBER.format("= ANY(%s::float8[])"), numbers),
        (_TEXT.format("= ANY(%s)"), texts),
        ("value = ANY(%s::jsonb[])", words),
    ]
    given = [(text, found) for text, found in tests if found]
    return " OR ".join(text for text, _ in given), [found for _, found in given]


def _json_word(value: ast.Boolean | ast.Null) -> str:
    if isinstance(value, ast.Null):
        return "null"
    return "true" if value.value else "false"
