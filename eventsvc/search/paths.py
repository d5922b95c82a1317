"""The paths in the data of events.

``find_paths`` lists the paths of matching events, with the number of events, the types and some values of each path.
``look_up`` tells for each path that a query names whether an event has the path, and which paths have similar names.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from eventsvc.errors import InvalidInput, LogTimeout, SearchesQueued
from eventsvc.event import Event
from eventsvc.paging import PageRequest
from eventsvc.query import ast
from eventsvc.query.render import render
from eventsvc.search.both_stores import Provenance
from eventsvc.search.search import Compiled, Search

EXAMPLES = 5
_LONGEST_EXAMPLE = 100  # characters of a string; a longer one is no example
_MOST_PATHS = 10_000
_PAGE = 500
_MOST_LOOKED_UP = 8  # paths of one query
_NEWEST = 1_000  # events whose paths are known to a look-up
_NEAR = 3  # similar paths that are suggested
# PERF: comparing two paths takes time by the product of their lengths: these bounds keep it to 0.1 s.
_MOST_COMPARED, _LONGEST_COMPARED = 200, 60  # paths; characters of a path
_DATA = "data."  # the prefix of every path

Keys = tuple[str, ...]
Compiler = Callable[[ast.Node | None], Compiled]


class TooManyPaths(InvalidInput):
    """The events have more different paths than the service lists."""


@dataclass(slots=True)
class PathFacts:
    """The facts about one path.

    Attributes:
        count: how many events have the path.
        types: for each type, how many events have a value of the type there; arrays stand for their elements.
        examples: some values with their types, from the newest event on.
    """

    count: int = 0
    types: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, Any], None] = field(default_factory=dict)

    def add(self, values: Iterable[Any]) -> None:
        """Add the values of one event."""
        self.count += 1
        typed = [(_type_of(value), value) for value in values]
        self.types.update({kind for kind, _ in typed})
        for kind, value in typed:
            if len(self.examples) < EXAMPLES and _is_example(kind, value):
                self.examples.setdefault((kind, value))


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of the examined events.

    Attributes:
        found: the facts about each path, written as in queries; the paths of most events come first.
        examined: how many events were examined.
        more: whether there are more matching events, older than those examined.
    """

    found: dict[str, PathFacts]
    examined: int
    more: bool
    provenance: Provenance


async def find_paths(search: Search, query: Compiled, newest: int, *, strong: bool) -> Paths:
    """Examine at most ``newest`` matching events, from the newest on.

    Raises:
        TooManyPaths: the events have more paths than the service lists.
        SearchesQueued: too many requests examine events, or wait for their turn.
        LogUnavailable: PostgreSQL is away, and the search needs PostgreSQL.
        LogTimeout: the index is away, and PostgreSQL alone took too long.
    """
    async with search.examining:
        return await _find_paths(search, query, newest, strong=strong)


async def _find_paths(search: Search, query: Compiled, newest: int, *, strong: bool) -> Paths:
    seen: dict[Keys, PathFacts] = {}
    request = PageRequest(min(_PAGE, newest))
    first = answer = await search.find(query, request, strong=strong, keep=False)
    examined = len(answer.events)
    # PERF: a thread does this, because it takes a while and other requests must not wait.
    await asyncio.to_thread(_add, seen, answer.events)
    while answer.more and examined < newest:
        request = replace(request, limit=min(_PAGE, newest - examined), after=answer.end)
        answer = await search.find(query, request, strong=strong, keep=False)
        examined += len(answer.events)
        await asyncio.to_thread(_add, seen, answer.events)
    return Paths(await asyncio.to_thread(_in_order, seen), examined, answer.more, first.provenance)


def _add(seen: dict[Keys, PathFacts], events: Iterable[Event]) -> None:
    for event in events:
        for keys, values in paths_of(event.parsed_data()).items():
            if keys not in seen:
                seen[keys] = PathFacts()
            seen[keys].add(values)
        if len(seen) > _MOST_PATHS:
            raise TooManyPaths(f"these events have more than {_MOST_PATHS:,} different paths: narrow q, or newest")


def _in_order(seen: dict[Keys, PathFacts]) -> dict[str, PathFacts]:
    named = {_path_name(keys): found for keys, found in seen.items()}
    return dict(sorted(named.items(), key=lambda item: (-item[1].count, item[0])))


def paths_of(data: Any) -> dict[Keys, list[Any]]:
    """Map each path of an event's data to its values; an array stands for its elements."""
    found: dict[Keys, list[Any]] = {}
    waiting: list[tuple[Keys, Any]] = [((), data)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, list):
            waiting += ((keys, inner) for inner in reversed(value))
            continue
        if keys:
            found.setdefault(ast.path(keys).keys, []).append(value)
        if isinstance(value, dict):
            waiting += (((*keys, key), inner) for key, inner in reversed(value.items()))
    return found


def _type_of(value: Any) -> str:
    """Name the JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case dict():
            return "object"
        case _:
            return "number"


def _is_example(kind: str, value: Any) -> bool:
    return kind in ("number", "boolean") or (kind == "string" and len(value) <= _LONGEST_EXAMPLE)


def _path_name(keys: Keys) -> str:
    """Write a path as in a query."""
    return render(ast.Exists(ast.Path(keys))).removesuffix(" exists")


@dataclass(frozen=True, slots=True)
class Named:
    """A path that a query names.

    Attributes:
        exists: whether some event has a value at the path; None if finding out takes too long.
        near: paths of the newest events with a similar name; empty if the path exists.
    """

    path: str
    exists: bool | None
    near: tuple[str, ...] = ()


def paths_in(node: ast.Node | None) -> Iterator[ast.Path]:
    """List the paths that a query names, each once."""
    yield from dict.fromkeys(path for path in _paths(node) if path.keys)


def _paths(node: ast.Node | None) -> Iterator[ast.Path]:
    match node:
        case ast.And(operands) | ast.Or(operands):
            for operand in operands:
                yield from _paths(operand)
        case ast.Not(operand):
            yield from _paths(operand)
        case None | ast.Created() | ast.Occurred():
            return
        case _ if isinstance(node.subject, ast.Path):
            yield node.subject


async def look_up(search: Search, node: ast.Node, compile_node: Compiler) -> list[Named]:
    """Look up the first paths of a query in all events that the request's key may see.

    Raises:
        TooManyPaths: the newest events have more different paths than can be listed.
        LogUnavailable: PostgreSQL is away.
    """
    places = [path for path, _ in zip(paths_in(node), range(_MOST_LOOKED_UP), strict=False)]
    if not places:
        return []
    known = list((await find_paths(search, compile_node(None), _NEWEST, strong=True)).found)
    return [await _look_up(search, path, known, compile_node) for path in places]


async def _look_up(search: Search, path: ast.Path, known: list[str], compile_node: Compiler) -> Named:
    name = _path_name(path.keys)
    if name in known:
        return Named(name, exists=True)
    try:
        answer = await search.find(compile_node(ast.Exists(path)), PageRequest(1), keep=False)
        exists = bool(answer.events)
    except (LogTimeout, SearchesQueued):
        exists = None
    return Named(name, exists, () if exists else await asyncio.to_thread(near, name, known))


def near(name: str, known: list[str]) -> tuple[str, ...]:
    """List paths that differ in letter case only, then those with the same last key, then similar spellings.

    Args:
        name: a path.
        known: the paths to choose from, the most frequent first.
    """
    folded = name.casefold()
    same = [other for other in known if other.casefold() == folded]
    last = f".{folded.rpartition('.')[2]}"
    ends = [other for other in known if other.casefold().endswith(last)]
    compared = [other for other in known if len(other) <= _LONGEST_COMPARED >= len(name)][:_MOST_COMPARED]
    plain = {other.removeprefix(_DATA): other for other in compared}
    alike = map(plain.__getitem__, difflib.get_close_matches(name.removeprefix(_DATA), plain, n=_NEAR, cutoff=0.7))
    return tuple(dict.fromkeys([*same, *ends, *alike]))[:_NEAR]
