"""Look up the paths in data that a query names: whether any event has the path, and which paths have similar names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eventsvc.errors import LogTimeout, SearchesQueued
from eventsvc.paging import PageRequest
from eventsvc.query import ast
from eventsvc.search.paths import find_paths, path_name
from eventsvc.search.search import Compiled, Search

_MOST = 8  # paths of one query that are looked up
_NEWEST = 1_000  # events whose paths are known
_NEAR = 3  # similar paths that are suggested
_DATA = "data."  # the prefix of every path

Compile = Callable[[ast.Node | None], Compiled]


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


async def look_up(search: Search, node: ast.Node, compile_node: Compile) -> list[Named]:
    """Look up the first paths of a query in all events that the request's key may see.

    Raises:
        TooManyPaths: the newest events have more different paths than can be listed.
        LogUnavailable: PostgreSQL is away.
    """
    places = [path for path, _ in zip(paths_in(node), range(_MOST), strict=False)]
    if not places:
        return []
    known = list((await find_paths(search, compile_node(None), _NEWEST, strong=True)).found)
    return [await _look_up(search, path, known, compile_node) for path in places]


async def _look_up(search: Search, path: ast.Path, known: list[str], compile_node: Compile) -> Named:
    name = path_name(path.keys)
    if name in known:
        return Named(name, exists=True)
    try:
        answer = await search.find(compile_node(ast.Exists(path)), PageRequest(1), keep=False)
        exists = bool(answer.events)
    except (LogTimeout, SearchesQueued):
        return Named(name, None, _near(name, known))
    return Named(name, exists, () if exists else _near(name, known))


def _near(name: str, known: list[str]) -> tuple[str, ...]:
    """List paths that differ in letter case only, then those with the same last key, then similar spellings."""
    folded = name.casefold()
    same = [other for other in known if other.casefold() == folded]
    last = f".{folded.rpartition('.')[2]}"
    ends = [other for other in known if other.casefold().endswith(last)]
    plain = {other.removeprefix(_DATA): other for other in known}
    alike = map(plain.__getitem__, difflib.get_close_matches(name.removeprefix(_DATA), plain, n=_NEAR, cutoff=0.7))
    return tuple(dict.fromkeys([*same, *ends, *alike]))[:_NEAR]
