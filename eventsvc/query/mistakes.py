"""Explain why a query is refused: the place of the fault, the words that may stand there, and a hint.

This code runs only for a query that is wrong already, so it can afford to parse the text a second time.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput

from eventsvc.errors import QueryError
from eventsvc.fields import FIELDS, SUBJECTS, Kind

COMPARISON = ("a comparison such as message ct 'text'",)
OPERATORS = ("eq", "ne", "ct", "sw", "gt", "gte", "lt", "lte", "in", "exists")
TIMES = ("a date: '2018-01-31'", "a time: '2018-01-31T10:00:00Z'", "now, or 'now-15m' (s, m, h, d, w)")
UUIDS = ("a UUID in quotes: '1b4e28ba-2fa1-41d2-883f-0016d3cca427'",)
_VALUES = {
    Kind.UUID: UUIDS,
    Kind.TEXT: ("a string in quotes",),
    Kind.TIME: TIMES,
    Kind.JSON: ("a string in quotes", "a number", "true", "false", "null"),
    Kind.ANY: ("a string in quotes",),
}

_WIDEST = 100  # characters of the line that are shown
_BEFORE = 60  # characters shown before the fault, at most

_FIELDS = (f"a field ({', '.join(FIELDS)}.path)", "a string to be found anywhere")

# The places of a query. The key is a token that the parser accepts only at this place; the value is the place's name
# and the list of what may stand there.
_PLACES = {
    "FIELD": ("start", (*_FIELDS, "NOT", "an opening bracket")),
    "OPERATOR": ("operator", ()),
    "STRING": ("value", ()),
    "COMMA": ("list", ("a comma", "a closing bracket")),
    "LPAR": ("in", ("an opening bracket",)),
    "AND": ("end", ("AND", "OR", "the end of the query")),
}
_CLOSING = ("AND", "OR", "a closing bracket")

# Hints for each place: a pattern for the text at the fault, and the hint. The first pattern that matches wins.
_EVERYWHERE = (
    (r"[\u2018\u2019\u201a\u201b\u2032\u00b4`]", "use the plain quote ' (a typographic one was pasted)"),
    (r"[\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb]", 'use the plain quote " (a typographic one was pasted)'),
    (r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]", "replace it by a plain space"),
    (r"[\u200b-\u200f\u2060\ufeff\u00ad]", "delete it: it is invisible, and was probably pasted along"),
    (r"[\uff08\uff09]", "use the plain brackets ( and )"),
    (r"\uff0c", "use the plain comma ,"),
    (r"--\s|/\*|//|#", "comments cannot be written in a query"),
)
_START = (
    (r"(?i:not)\b", "keywords are upper case: NOT"),
    (r"!", "write NOT"),
    (r"(?i:and|or)\b", "AND and OR stand between two comparisons"),
    (r"""['"]|[-+.\d]""", "a comparison begins with a field: message ct 'text'"),
    (r"\)", "a comparison is missing before this bracket"),
    (r"$", "a comparison is missing"),
    (r"[\[{]", "use the plain brackets ( and )"),
    (
        r"(?:eq|ne|ct|sw|gte?|lte?|in|exists|true|false|null|now)\b",
        "a comparison begins with a field: message ct 'text'",
    ),
)
_OPERATOR = (
    (r"!=|<>|\u2260|!", "write ne"),
    (r">=|=>|\u2265", "write gte"),
    (r"<=|=<|\u2264", "write lte"),
    (r">", "write gt"),
    (r"<", "write lt"),
    (r"\^=", "write sw (starts with)"),
    (r"[~*%]=?|=~|@>|\?", "write ct (contains)"),
    (r"={1,3}|:", "write eq"),
    (r"(?i:not\s+(?:in|like|exists|contains|ct|sw|eq)\b)", "write NOT before the comparison: NOT email in ('a', 'b')"),
    (r"(?i:is\s+not|isnt|neq|not_equals?|unequal)\b", "write ne"),
    (r"(?i:is|equals?|equal_to)\b", "write eq"),
    (r"(?i:i?like|contains?|has|includes?|matche?s?|regexp?|substring)\b", "write ct (contains)"),
    (r"(?i:starts?_?\s*with|begins?_?\s*(?:with)?|prefix)\b", "write sw (starts with)"),
    (r"(?i:ends?_?\s*with)\b", "there is no ends with; ct finds the text anywhere"),
    (r"(?i:between)\b", "write two comparisons: createdAt gte now-2d AND createdAt lt now-1d"),
    (r"(?i:ge|after|since|greater)\b", "write gte, or gt"),
    (r"(?i:le|before|until|less)\b", "write lte, or lt"),
    (r"(?i:eq|ne|ct|sw|gte?|lte?|in|exists)\b", "operators are lower case: {lower}"),
    (r"\.\s*['\"]", "the quote of this key is never closed"),
    (r"\[", "a place in an array is a number from 0: data.items[0]"),
    (r"\.", "a key of other characters goes in quotes: data.'user id'"),
    (r"->", "a path is written with dots: data.user.id"),
    (r"-", "a key of other characters goes in quotes: data.'user id'"),
    (r"(?:AND|OR|\)|$)", "an operator and a value are missing, or exists"),
    (r"""['"\d]""", "an operator is missing between field and value"),
)
_VALUE = (
    (r"(?i:true|false|null)\b", "values are lower case: {lower}"),
    (r"(?i:none|nil|undefined)\b", "write null"),
    (r"(?i:nan|inf|infinity)\b", "data holds no such number"),
    (r"(?i:now)\b", "write now, or now-15m (s, m, h, d, w)"),
    (r"(?:AND|OR)\b|\)|$", "a value is missing"),
    (r"(?:eq|ne|ct|sw|gte?|lte?|in|exists|NOT)\b", "one operator is enough; a value is missing"),
    (r"[\[({]", "for several values write in: email in ('a', 'b')"),
    (r"[=<>~!]", "one operator is enough; a value is missing"),
    (r"[^\s'\"(),]+", "put text in quotes: '{found}'"),
)
_END = (
    (r"(?:eq|ne|ct|sw|gte?|lte?|in|exists)\b", "a comparison begins with a field: message ct 'text'"),
    (r"(?i:and|or)\b", "keywords are upper case: {upper}"),
    (r"&&?|\u2227", "write AND"),
    (r"\|\|?|\u2228", "write OR"),
    (r"[,;+]", "comparisons are joined by AND or OR"),
    (r"\)", "there is no opening bracket for this one"),
    (r"(?i:xor)\b", "there is no XOR; write it with AND, OR and NOT"),
    (
        r"""(?i:order|sort|limit|group|offset)\b""",
        "a query only says which events; limit and the like are parameters of their own",
    ),
    (r"(?i:not)\b", "write AND NOT, or OR NOT"),
    (r"[\]}]", "use the plain brackets ( and )"),
    (r"[^\W\d]|\(", "AND or OR is missing here"),
)
_LIST = (
    (r"(?:AND|OR)\b", "the list of values is not closed: a bracket ) is missing"),
    (r"$", "the list of values is not closed: a bracket ) is missing"),
    (r"[^)]", "values are separated by commas: ('a', 'b')"),
)
_IN = ((r"", "in takes its values in brackets: in ('a', 'b')"),)
_HINTS = {"start": _START, "operator": _OPERATOR, "value": _VALUE, "end": _END, "list": _LIST, "in": _IN}

# A run of letters, digits and the like, or a run of signs.
_WORD = re.compile(r"[\w.@+-]+|[=<>!&|~^:*%]+")
_UNQUOTED = re.compile(r"[\w.@+%:/*-]+|[=<>!&|~^]+")
_KEY_HINT = "a key of other characters goes in quotes: data.'user id'"


def explain(text: str, grammar: Lark) -> QueryError:
    """Explain why the grammar has refused text."""
    tokens, offset, refused = _read_as_far_as_possible(text, grammar)
    # A second parser is needed: the first one has changed its state before it refused the token.
    parser: Any = grammar.parse_interactive("")
    for token in tokens:
        parser.feed_token(token)
    brackets = _open_brackets(tokens)
    place, expected = _place(parser.accepts(), brackets)
    previous = tokens[-1] if tokens else Token("START", "")
    if place == "operator" and _name(previous) not in SUBJECTS:
        return _no_field(text, previous)
    if place in {"operator", "value"}:
        expected = _expected_of(tokens, place)
    found = str(refused) if refused and place != "value" else _unreadable(text, offset, place)
    hint = _quote_hint(text, offset, previous, refused) or _hint(text, offset, place, found)
    if not hint and place == "operator" and previous.startswith("data."):
        hint = _KEY_HINT
    if place == "end" and brackets and offset == len(text):
        hint = f"the bracket at position {brackets[-1].start_pos} is not closed"
    return QueryError(
        _reason(text, offset, found), text=text, offset=offset, width=len(found), expected=expected, hint=hint
    )


def _name(token: Token) -> str:
    return re.split(r"[.\[]", token, maxsplit=1)[0]


def _expected_of(tokens: list[Token], place: str) -> tuple[str, ...]:
    """List what may follow, which depends on the field that is compared."""
    name = next(_name(token) for token in reversed(tokens) if token.type == "FIELD")
    if name not in SUBJECTS:
        return ()
    field = SUBJECTS[name]
    return _VALUES[field.kind] if place == "value" else tuple(name for name in OPERATORS if name in field.operators)


def _unreadable(text: str, offset: int, place: str) -> str:
    """Give the text that the error points at where no token fits: a word, a few signs, or one odd character."""
    word = (_UNQUOTED if place == "value" else _WORD).match(text, offset)
    return word[0] if word else text[offset : offset + 1]


def _quote_hint(text: str, offset: int, previous: Token, refused: Token | None) -> str:
    """Give a hint about quotes, which depends on more than the text at the fault."""
    if text[offset : offset + 1] not in {"'", '"'}:
        return ""
    if previous.type == "STRING" and previous.end_pos == offset:
        return f"write a quote inside a string as \\{text[offset]}"
    return "" if refused else "the quote that opens here is never closed"


def _read_as_far_as_possible(text: str, grammar: Lark) -> tuple[list[Token], int, Token | None]:
    """Give the tokens before the fault, the fault's offset, and the token that the grammar refused, if any."""
    parser: Any = grammar.parse_interactive(text)
    tokens: list[Token] = []
    try:
        # The parser yields a token before it checks the token, so the last token yielded is the refused one.
        tokens.extend(parser.iter_parse())
    except UnexpectedCharacters as exc:
        return tokens, exc.pos_in_stream or 0, None
    except UnexpectedInput:
        return tokens[:-1], tokens[-1].start_pos or 0, tokens[-1]
    return tokens, len(text), None


def _open_brackets(tokens: list[Token]) -> list[Token]:
    brackets: list[Token] = []
    for token in tokens:
        if token.type == "LPAR":
            brackets.append(token)
        elif token.type == "RPAR":
            brackets.pop()
    return brackets


def _place(accepted: set[str], brackets: list[Token]) -> tuple[str, tuple[str, ...]]:
    for token, (name, expected) in _PLACES.items():
        if token in accepted:
            return name, _CLOSING if name == "end" and brackets else expected
    raise AssertionError(accepted)


def _no_field(text: str, token: Token) -> QueryError:
    """Make the error for a word that stands where a field must, but names no field."""
    name = _name(token)
    offset = token.start_pos or 0
    hint = _hint(text, offset, "start", token) or f"to look for a word: message ct '{name}'"
    return QueryError(
        f"there is no field {name}", text=text, offset=offset, width=len(name), expected=_FIELDS, hint=hint
    )


def _hint(text: str, offset: int, place: str, found: str) -> str:
    for pattern, hint in _EVERYWHERE + _HINTS[place]:
        if match := re.compile(pattern).match(text, offset):
            shown = match[0] or found
            return hint.format(found=found, lower=shown.lower(), upper=shown.upper()) if "{" in hint else hint
    return ""


def _reason(text: str, offset: int, found: str) -> str:
    if offset >= len(text.rstrip()):
        return "the query ends too early"
    char = text[offset]
    if not char.isprintable() or not char.isascii():
        name = unicodedata.name(char, "a control character")
        return f"unexpected {name.lower()} (U+{ord(char):04X})"
    return f"unexpected {found if len(found) <= 40 else found[:39] + '…'}"  # noqa: PLR2004


def render_excerpt(error: QueryError) -> str:
    """Write two lines: the line of the query that holds the fault, and a caret for each character of the fault."""
    start = error.text.rfind("\n", 0, error.offset) + 1
    end = error.text.find("\n", start)
    line = error.text[start : end if end >= 0 else len(error.text)].rstrip("\r")
    place = min(error.offset - start, len(line))
    first = max(0, place - _BEFORE) if len(line) > _WIDEST else 0
    shown = line[first : first + _WIDEST]
    left, right = "…" if first else "", "…" if first + _WIDEST < len(line) else ""
    # A character without width, or one that moves other characters, is shown as one plain character.
    visible = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown.replace("\t", " "))
    width = max(1, min(error.width, len(shown) - (place - first)))
    before, under = visible[: place - first], visible[place - first :][:width]
    return f"{left}{visible}{right}\n{' ' * (len(left) + _columns(before))}{'^' * max(1, _columns(under))}"


def _columns(text: str) -> int:
    """Count the columns that text takes in a terminal: CJK and emoji take two columns, accents none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
