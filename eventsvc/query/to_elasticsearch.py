"""AST → an Elasticsearch query in filter context, without scoring.

If no query on the index has exactly the meaning of the AST, the result is None and the search runs in SQL.
"""

from __future__ import annotations

from typing import Any, assert_never

from eventsvc.event import format_nanoseconds
from eventsvc.fields import ANY, FIELDS, TEXTS
from eventsvc.query import ast
from eventsvc.query.times import clamp_nanoseconds
from eventsvc.text import numbers, terms
from eventsvc.text.fold import fold

Query = dict[str, Any]

# Lucene refuses to build an automaton of about 400 repeated characters, path and needle together.
LONGEST_WILDCARD = 256
# Elasticsearch refuses more than 1,000 UTF-16 units (index.max_regex_length), the path in data included.
LONGEST_PREFIX = 400
# Elasticsearch refuses 30 levels (indices.query.bool.max_nested_depth); the search adds some levels of its own.
DEEPEST = 24

_ORDERS = {
    ast.Order.GT: ("gt", "lt"),
    ast.Order.GTE: ("gte", "lt"),
    ast.Order.LT: ("lt", "gte"),
    ast.Order.LTE: ("lte", "gte"),
}


class _Inexact(Exception):
    """No query on the index has exactly this meaning."""


def to_elasticsearch(node: ast.Node) -> Query | None:
    """Compile a node; None if no query on the index has exactly its meaning."""
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
    """Build one bool query for a conjunction, its negations and, if there is exactly one, its disjunction."""
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
    """Build the queries of a disjunction; all equalities on a field become one terms query."""
    equalities: dict[str, list[str]] = {}
    queries = []
    for operand in operands:
        if isinstance(operand, ast.Equal | ast.In):
            for field, found in _exact_terms(operand).items():
                equalities.setdefault(field, []).extend(found)
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
        case ast.Created(start, end):
            bounds = {"gte": start, "lt": end}
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"range": {FIELDS["createdAt"].exact: given | {"format": "epoch_millis"}}}
        case ast.Occurred(start, end):
            bounds = {"gte": start, "lt": end}
            moments = {
                name: format_nanoseconds(clamp_nanoseconds(bound))
                for name, bound in bounds.items()
                if bound is not None
            }
            return {"range": {FIELDS["occurredAt"].exact: moments | {"format": "strict_date_optional_time_nanos"}}}
        case ast.Equal() | ast.In():
            return _either([_terms(field, found) for field, found in _exact_terms(node).items()])
        case ast.Contains(ast.Path(keys), needle) if keys:
            return _wildcard(_DATA, f"{_escape(_label(keys))}f?*{_escape(fold(needle))}*")
        case ast.StartsWith(ast.Path(keys), needle) if keys:
            starts = (terms.FOLDED_ITSELF, terms.FOLDED)
            return _either([_prefix(_DATA, _label(keys) + start, needle) for start in starts])
        case ast.Contains(subject, needle) | ast.StartsWith(subject, needle):
            at_start = isinstance(node, ast.StartsWith)
            return _either([_folded(field, needle, at_start=at_start) for field in _folded_fields(subject)])
        case ast.Range():
            return _range(node)
        case ast.Exists(ast.Path(keys)):
            return {"term": {_DATA: _label(keys) + terms.EXISTS}}
        case ast.Exists():
            return {"match_all": {}}
        case _:
            assert_never(node)


_DATA, _VALUES, _MESSAGE = FIELDS["data"].exact, FIELDS["data"].folded, FIELDS["message"].folded


def _either(queries: list[Query]) -> Query:
    return queries[0] if len(queries) == 1 else _bool(should=queries)


def _label(keys: tuple[str, ...]) -> str:
    """Give the prefix of the terms at a path. A term holds at most one array index, and only a small index."""
    places = [key for key in keys if ast.is_array_index(key)]
    if len(places) > 1 or any(len(place) > 4 or int(place) >= terms.MOST_PLACES for place in places):  # noqa: PLR2004
        raise _Inexact
    return terms.data_path(keys)


def _exact_terms(node: ast.Equal | ast.In) -> dict[str, list[str]]:
    """Map each field to its terms; an event matches if one of the terms is there."""
    values, subject = (node.values if isinstance(node, ast.In) else (node.value,)), node.subject
    if isinstance(subject, ast.Path):
        label = _label(subject.keys)
        return {_DATA: [label + _data_term(value) for value in values]}
    if subject.name != ANY.name:
        return {FIELDS[subject.name].exact: [_plain(value) for value in values]}
    found = {FIELDS[name].exact: [_plain(value) for value in values] for name in TEXTS}
    on_data = ast.on_data(node)
    return found | _exact_terms(ast.In(ast.Path(()), on_data.values if isinstance(on_data, ast.In) else values))


def _plain(value: ast.Value) -> str:
    if not isinstance(value, ast.Text):
        raise TypeError("only data holds anything but text")
    return value.value


def _data_term(value: ast.Value) -> str:
    match value:
        case ast.Text(text):
            return terms.text_term(text)
        case ast.Number(number):
            return numbers.term(number)
        case ast.Boolean(truth):
            return terms.boolean_term(truth)
        case ast.Null():
            return terms.NULL
        case _:
            assert_never(value)


def _terms(field: str, values: list[str]) -> Query:
    return {"term": {field: values[0]}} if len(values) == 1 else {"terms": {field: values}}


def _folded_fields(subject: ast.Subject) -> list[str]:
    if isinstance(subject, ast.Path):
        return [_VALUES]
    if subject.name == ANY.name:
        return [*(FIELDS[name].folded for name in TEXTS), _VALUES]
    return [FIELDS[subject.name].folded]


def _folded(field: str, needle: str, *, at_start: bool) -> Query:
    if field in (_VALUES, _MESSAGE):
        return _trigrams(field, needle, at_start=at_start)
    return _prefix(field, "", needle) if at_start else _wildcard(field, f"*{_escape(fold(needle))}*")


def _wildcard(field: str, pattern: str) -> Query:
    if len(pattern) > LONGEST_WILDCARD:
        raise _Inexact
    return {"wildcard": {field: {"value": pattern}}}


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _prefix(field: str, start: str, needle: str) -> Query:
    folded = fold(needle)
    if len(folded) > LONGEST_PREFIX:
        raise _Inexact
    return {"prefix": {field: {"value": start + folded}}}


def _trigrams(field: str, needle: str, *, at_start: bool) -> Query:
    whole, text = terms.needle_trigrams(needle, at_start=at_start)
    return {"match_phrase": {field: text}} if whole else {"prefix": {field: {"value": text}}}


def _range(node: ast.Range) -> Query:
    """Build a range from the bound to the end of the terms of the bound's type (one character past the last term)."""
    label = _label(node.subject.keys)
    if isinstance(node.bound, ast.Text):
        if len(node.bound.value) > terms.LONGEST_TEXT:
            raise _Inexact
        kinds = [(kind, kind + node.bound.value) for kind in (terms.FOLDED_ITSELF, terms.UNFOLDED)]
    else:
        kinds = [("n:", numbers.term(node.bound.value))]
    near, far = _ORDERS[node.order]
    ends = [(bound, kind[0] + chr(ord(kind[1]) + 1) if far == "lt" else kind) for kind, bound in kinds]
    return _either([{"range": {_DATA: {near: label + bound, far: label + end}}} for bound, end in ends])
