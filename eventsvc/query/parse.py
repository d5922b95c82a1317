"""Text → AST: check the limits, parse with the grammar, and turn Lark's tree into our nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedInput

from eventsvc.errors import QueryError
from eventsvc.query import ast, mistakes, times
from eventsvc.query.check import Checker

LONGEST = 8192  # characters
DEEPEST = 64  # levels of brackets and NOTs
MOST_COMPARISONS = 1024  # each value of an ``in`` counts as a comparison

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse(text: str, *, now: int, tz: str = "UTC") -> ast.Node:
    """Read a query.

    Args:
        text: the query.
        now: the time that ``now`` stands for, in milliseconds since 1970.
        tz: the IANA time zone of dates without a time, and of times without an offset.

    Raises:
        QueryError: the query cannot be read, makes no sense or is too large.
        InvalidParameter: there is no such time zone.
    """
    zone = times.zone(tz)
    _check_text(text)
    try:
        tree: Any = _GRAMMAR.parse(text)
    except UnexpectedInput as exc:
        raise mistakes.explain(text, _GRAMMAR) from exc
    except _TooLarge as exc:
        raise QueryError(exc.reason, text=text, offset=exc.token.start_pos or 0, width=len(exc.token)) from exc
    return _node(tree.children[0], Checker(text, now, zone))


def _check_text(text: str) -> None:
    if len(text) > LONGEST:
        reason = f"the query has {len(text):,} characters, {LONGEST:,} are allowed"
        raise QueryError(reason, text=text, offset=LONGEST, hint="many values of one field fit into in (...)")
    if found := _UNSTORABLE.search(text):
        reason = f"U+{ord(found[0]):04X} is in no event, and cannot be asked for"
        raise QueryError(reason, text=text, offset=found.start())
    if not text.strip():
        raise QueryError("the query is empty", text=text, offset=0, expected=mistakes.COMPARISON)


class _TooLarge(Exception):
    def __init__(self, reason: str, token: Token) -> None:
        self.reason, self.token = reason, token
        super().__init__(reason)


class _Limits:
    """Counts tokens on their way to the parser, so that the parser never builds a deep or a long tree."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Pass the tokens on, up to the limits."""
        nots, levels, comparisons = 0, [0], 0
        for token in stream:
            match token.type:
                case "NOT":
                    nots += 1
                case "LPAR":
                    levels.append(levels[-1] + nots + 1)
                    nots = 0
                case "RPAR" if len(levels) > 1:
                    levels.pop()
                case "AND" | "OR":
                    nots = 0
                case "OPERATOR" | "IN" | "EXISTS" | "COMMA":
                    comparisons += 1
            if levels[-1] + nots > DEEPEST:
                raise _TooLarge(f"more than {DEEPEST} levels of brackets and NOT", token)
            if comparisons > MOST_COMPARISONS:
                raise _TooLarge(f"more than {MOST_COMPARISONS:,} comparisons (each value of in (...) is one)", token)
            yield token


_GRAMMAR = Lark.open(
    "grammar.lark", rel_to=__file__, parser="lalr", lexer="basic", postlex=_Limits(), maybe_placeholders=False
)


def _node(tree: Any, checker: Checker) -> ast.Node:
    match tree.data:
        case "or":
            return ast.disjunction([_node(child, checker) for child in tree.children])
        case "and":
            return ast.conjunction([_node(child, checker) for child in tree.children])
        case "not":
            return ast.negation(_node(tree.children[0], checker))
        case _:
            first, *rest = tree.children
            return checker.comparison(first, rest[0], rest[1:]) if rest else checker.anywhere(first)
