"""AST → an Elasticsearch query for filter context: no scoring anywhere.

What an index cannot answer exactly is not answered at all: the result is None then, and the search runs in SQL.
"""

from __future__ import annotations

from typing import Any, assert_never

from eventsvc.fields import FIELDS
from eventsvc.query import ast
from eventsvc.text import terms

Query = dict[str, Any]

# Lucene refuses to build an automaton for about 400 repeated characters, path and needle together.
LONGEST_WILDCARD = 256
# Elasticsearch refuses more than 1,000 UTF-16 units (index.max_regex_length), the path in data included.
LONGEST_PREFIX = 400
# Elasticsearch refuses 30 levels (indices.query.bool.max_nested_depth); the search adds some of its own.
DEEPEST = 24

_ORDERS = {
    ast.Order.GT: ("gt", "lt"),
    ast.Order.GTE: ("gte", "lt"),
    ast.Order.LT: ("lt", "gte"),
    ast.Order.LTE: ("lte", "gte"),
}


class _Inexact(Exception):
    """The index cannot express this."""


def to_elasticsearch(node: ast.Node) -> Query | None:
    """Compile node; None if no query on the index has exactly this meaning."""
    try:
        return _query(node, 1)
    except _Inexact:
        return None


def _query(node: ast.Node, level: int) -> Query:
    if level > DEEPEST:
        raise _Inexact
    match node:
        case ast.And(operands):
            return _all(operands, level)
        case ast.Or(operands):
            choices = _any(operands, level)
            return choices[0] if len(choices) == 1 else _bool(should=choices)
        case ast.Not(operand):
            return _all((node,), level) if not isinstance(operand, ast.Not) else _query(operand.operand, level)
        case _:
            return _comparison(node)


def _all(operands: tuple[ast.Node, ...], level: int) -> Query:
    """One bool for a conjunction, its negations and, if there is just one, its disjunction."""
    choices = [operand for operand in operands if isinstance(operand, ast.Or)]
    own = choices[0] if len(choices) == 1 else None
    plain = [operand for operand in operands if operand is not own and not isinstance(operand, ast.Not)]
    denied = [operand.operand for operand in operands if isinstance(operand, ast.Not)]
    return _bool(
        filters=[_query(operand, level + 1) for operand in plain],
        should=_any(own.operands, level) if own else [],
        must_not=_any(_alternatives(denied), level),
    )


def _alternatives(nodes: list[ast.Node]) -> tuple[ast.Node, ...]:
    return tuple(part for node in nodes for part in (node.operands if isinstance(node, ast.Or) else (node,)))


def _any(operands: tuple[ast.Node, ...], level: int) -> list[Query]:
    """The alternatives; all that are equalities become one terms query a field, however many there are."""
    equalities: dict[str, list[str]] = {}
    queries = []
    for operand in operands:
        if isinstance(operand, ast.Equal | ast.In):
            equalities.setdefault(_exact_field(operand.subject), []).extend(_exact_terms(operand))
        else:
            queries.append(_query(operand, level + 1))
    return [_terms(field, found) for field, found in equalities.items()] + queries


def _bool(
    *, filters: list[Query] | None = None, should: list[Query] | None = None, must_not: list[Query] | None = None
) -> Query:
    body: Query = {}
    if filters:
        body["filter"] = filters
    if should:
        body |= {"should": should, "minimum_should_match": 1}
    if must_not:
        body["must_not"] = must_not
    return {"bool": body}


def _comparison(node: ast.Comparison) -> Query:  # noqa: PLR0911  (one for each node)
    match node:
        case ast.Equal() | ast.In():
            return _terms(_exact_field(node.subject), _exact_terms(node))
        case ast.Contains(ast.Path(keys), needle):
            return _wildcard("terms.data", f"{_escape(terms.data_path(keys))}f?*{_escape(terms.fold(needle))}*")
        case ast.Contains(ast.Name("message"), needle):
            return _trigrams(needle, at_start=False)
        case ast.StartsWith(ast.Name("message"), needle):
            return _trigrams(needle, at_start=True)
        case ast.Contains(subject, needle):
            return _wildcard(_folded_field(subject), f"*{_escape(terms.fold(needle))}*")
        case ast.StartsWith(subject, needle):
            return _prefix(subject, needle)
        case ast.Range():
            return _range(node)
        case ast.Created(start, end):
            bounds = {"gte": start, "lt": end}
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"range": {FIELDS["createdAt"].exact: given | {"format": "epoch_millis"}}}
        case ast.Exists(ast.Path(keys)):
            return {"term": {"terms.data": terms.data_path(keys) + terms.EXISTS}}
        case ast.Exists():
            return {"match_all": {}}
        case _:
            assert_never(node)


def _exact_field(subject: ast.Subject) -> str:
    return FIELDS[subject.name].exact if isinstance(subject, ast.Name) else FIELDS["data"].exact


def _folded_field(subject: ast.Subject) -> str:
    return FIELDS[subject.name].folded if isinstance(subject, ast.Name) else FIELDS["data"].folded


def _exact_terms(node: ast.Equal | ast.In) -> list[str]:
    values = node.values if isinstance(node, ast.In) else (node.value,)
    path = terms.data_path(node.subject.keys) if isinstance(node.subject, ast.Path) else None
    return [_data_term(path, value) if path else _plain(value) for value in values]


def _plain(value: ast.Value) -> str:
    if not isinstance(value, ast.Text):
        raise TypeError("only data holds anything but text")
    return value.value


def _data_term(path: str, value: ast.Value) -> str:
    match value:
        case ast.Text(text):
            return path + terms.text_term(text)
        case ast.Number(number):
            return path + terms.number_term(number)
        case ast.Boolean(truth):
            return path + terms.boolean_term(truth)
        case ast.Null():
            return path + terms.NULL
        case _:
            assert_never(value)


def _terms(field: str, values: list[str]) -> Query:
    return {"term": {field: values[0]}} if len(values) == 1 else {"terms": {field: values}}


def _wildcard(field: str, pattern: str) -> Query:
    if len(pattern) > LONGEST_WILDCARD:
        raise _Inexact
    return {"wildcard": {field: {"value": pattern}}}


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _prefix(subject: ast.Subject, needle: str) -> Query:
    if len(needle) > LONGEST_PREFIX:
        raise _Inexact
    start = f"{terms.data_path(subject.keys)}f:" if isinstance(subject, ast.Path) else ""
    return {"prefix": {_folded_field(subject): {"value": start + terms.fold(needle)}}}


def _trigrams(needle: str, *, at_start: bool) -> Query:
    whole, text = terms.needle_trigrams(needle, at_start=at_start)
    field = FIELDS["message"].folded
    return {"match_phrase": {field: text}} if whole else {"prefix": {field: {"value": text}}}


def _range(node: ast.Range) -> Query:
    """Between the bound and the end of the terms of its type, which is one character past the type's ``:``."""
    path = terms.data_path(node.subject.keys)
    near, far = _ORDERS[node.order]
    if isinstance(node.bound, ast.Text):
        if len(node.bound.value) > terms.LONGEST_TEXT:
            raise _Inexact
        bound, edge = "s:" + node.bound.value, "s;" if far == "lt" else "s:"
    else:
        bound, edge = terms.number_term(node.bound.value), "n;" if far == "lt" else "n:"
    return {"range": {FIELDS["data"].exact: {near: path + bound, far: path + edge}}}
