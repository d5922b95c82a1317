"""The type checker: turns a comparison as written into its node, or says what is wrong with the comparison."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from lark import Token

from eventsvc.errors import QueryError
from eventsvc.event import format_time
from eventsvc.fields import ANY, FIELDS, SUBJECTS, Field, Kind
from eventsvc.query import ast
from eventsvc.query.literals import WrongLiteral, read_number, read_path, read_string
from eventsvc.query.mistakes import OPERATORS, TIMES, UUIDS
from eventsvc.query.times import NotATime, Span, read_time
from eventsvc.text.fold import fold

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks comparisons; holds the query's text, the time of the question and the time zone."""

    text: str
    now: int
    zone: ZoneInfo

    def comparison(self, field: Token, operator: Token, values: list[Token]) -> ast.Node:
        """Build the node of one comparison.

        Raises:
            QueryError: the comparison makes no sense. The error says what is wrong and what is allowed.
        """
        subject = self._subject(field)
        known = SUBJECTS[subject.name if isinstance(subject, ast.Name) else "data"]
        if operator not in known.operators:
            allowed = tuple(name for name in OPERATORS if name in known.operators)
            raise self._error(f"{known.name} has no operator {operator}", operator, expected=allowed)
        if operator == "exists":
            if subject == ast.Path(()):
                raise self._error(
                    "data needs a path to what shall exist", field, hint="for example data.user.id exists"
                )
            return ast.Exists(subject)
        if known.kind is Kind.TIME:
            return self._on_time(known.name, operator, values)
        return self._on_values(subject, known, operator, values)

    def _subject(self, field: Token) -> ast.Subject:
        try:
            name, keys = read_path(field)
        except WrongLiteral as exc:
            raise self._wrong(exc, field) from exc
        if name not in SUBJECTS:
            raise self._error(f"there is no field {name}", field, width=len(name), hint=_nearest(name))
        if name == "data":
            return ast.path(keys)
        if keys:
            raise self._error(f"{name} has nothing inside; only data has a path", field, hint="write " + name)
        return ast.Name(name)

    def anywhere(self, literal: Token) -> ast.Node:
        """Build the node of a bare string, which means that any text of the event contains the string.

        Raises:
            QueryError: the string is empty.
        """
        return ast.Contains(ast.Name(ANY.name), self._needle(ANY, "ct", literal))

    def _on_values(self, subject: ast.Subject, field: Field, operator: Token, values: list[Token]) -> ast.Node:
        if operator in ("ct", "sw"):
            needle = self._needle(field, operator, values[0])
            return ast.Contains(subject, needle) if operator == "ct" else ast.StartsWith(subject, needle)
        if operator in ast.Order.__members__.values():
            return self._range(subject, operator, values[0])
        found = tuple(dict.fromkeys(self._value(field, value) for value in values))
        if operator == "in":
            return ast.In(subject, found)
        equal = ast.Equal(subject, found[0])
        return ast.Not(equal) if operator == "ne" else equal

    def _needle(self, field: Field, operator: str, literal: Token) -> str:
        if literal.type != "STRING":
            raise self._error(
                f"{operator} looks for text in {_shown(field)}",
                literal,
                expected=("a string in quotes",),
                hint=f"write '{literal}'",
            )
        needle = self._string(literal)
        if not fold(needle):
            raise self._error(f"{operator} needs at least one character to look for", literal)
        return needle

    def _range(self, subject: ast.Subject, operator: Token, literal: Token) -> ast.Range:
        value = self._value(FIELDS["data"], literal)
        if not isinstance(subject, ast.Path) or not isinstance(value, ast.Text | ast.Number):
            raise self._error(
                f"{operator} compares numbers, or strings", literal, expected=("a number", "a string in quotes")
            )
        return ast.Range(subject, ast.Order(operator), value)

    def _value(self, field: Field, literal: Token) -> ast.Value:
        if field.kind is Kind.JSON:
            return self._json_value(literal)
        if field.kind is Kind.UUID:
            return self._uuid(literal)
        if field.kind is Kind.ANY and literal.type == "NUMBER":
            return ast.Text(str(literal))
        if literal.type != "STRING":
            hint = f"no event is without {field.name}" if literal.type == "NULL" else f"write '{literal}'"
            raise self._error(f"{field.name} is text", literal, expected=("a string in quotes",), hint=hint)
        return ast.Text(self._string(literal))

    def _json_value(self, literal: Token) -> ast.Value:
        match literal.type:
            case "STRING":
                return ast.Text(self._string(literal))
            case "NUMBER":
                return ast.Number(self._number(literal))
            case "NULL":
                return ast.Null()
            case "NOW":
                raise self._error(
                    "now is for createdAt and occurredAt; times in data are strings or numbers like any other",
                    literal,
                    expected=("a string in quotes", "a number", "true", "false", "null"),
                )
            case _:
                return ast.Boolean(literal.type == "TRUE")

    def _uuid(self, literal: Token) -> ast.Text:
        text = self._string(literal).lower() if literal.type == "STRING" else ""
        if not _UUID.fullmatch(text):
            raise self._error("id is a UUID", literal, expected=UUIDS)
        return ast.Text(text)

    def _string(self, literal: Token) -> str:
        try:
            return read_string(literal)
        except WrongLiteral as exc:
            raise self._wrong(exc, literal) from exc

    def _number(self, literal: Token) -> Decimal:
        try:
            return read_number(literal)
        except WrongLiteral as exc:
            expected = ("a number such as 10, -0.5 or 1e3", "a string in quotes")
            raise self._wrong(exc, literal, expected) from exc

    def _on_time(self, name: str, operator: Token, values: list[Token]) -> ast.Node:
        spans = [self._span(name, value) for value in values]
        node, ends = _TIMES[name]
        start, end = ends(spans[0])
        if operator == "in":
            return ast.disjunction(dict.fromkeys(node(*ends(span)) for span in spans))
        if operator == "ne":
            return ast.Not(node(start, end))
        bounds = {"eq": (start, end), "gt": (end, None), "gte": (start, None), "lt": (None, start), "lte": (None, end)}
        return node(*bounds[operator])

    def _span(self, name: str, literal: Token) -> Span:
        if literal.type not in ("STRING", "NOW"):
            raise self._error(f"{name} is a time", literal, expected=TIMES, hint=_time_hint(literal))
        text = self._string(literal) if literal.type == "STRING" else str(literal)
        try:
            return read_time(text, now=self.now, tz=self.zone)
        except NotATime as exc:
            raise self._error(str(exc), literal, expected=TIMES, hint=exc.hint) from exc

    def _wrong(self, exc: WrongLiteral, token: Token, expected: tuple[str, ...] = ()) -> QueryError:
        offset = (token.start_pos or 0) + exc.offset
        return QueryError(str(exc), text=self.text, offset=offset, width=exc.width, expected=expected, hint=exc.hint)

    def _error(
        self, reason: str, token: Token, *, width: int = 0, expected: tuple[str, ...] = (), hint: str = ""
    ) -> QueryError:
        return QueryError(
            reason, text=self.text, offset=token.start_pos or 0, width=width or len(token), expected=expected, hint=hint
        )


# For each time field: its node, and a function that gives the start and end of a span in the node's unit.
_TIMES: dict[str, tuple[Callable[[int | None, int | None], ast.Node], Callable[[Span], tuple[int, int]]]] = {
    "createdAt": (ast.Created, lambda span: (span.start, span.end)),
    "occurredAt": (ast.Occurred, lambda span: span.exact),
}


def _nearest(name: str) -> str:
    by_lower = {field.lower(): field for field in SUBJECTS}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return (
        f"did you mean {by_lower[close[0]]}?"
        if close
        else f"fields: {', '.join(FIELDS)}.path; inside data: data.{name}"
    )


def _shown(field: Field) -> str:
    return "data" if field.kind is Kind.JSON else field.name


def _time_hint(literal: Token) -> str:
    if re.fullmatch("[0-9]{9,10}|[0-9]{12,13}", literal):
        milliseconds = int(literal) * (1 if len(literal) > 10 else 1000)  # noqa: PLR2004
        return f"seconds since 1970 are not read; write '{format_time(milliseconds)}'"
    return f"write '{literal}'" if "-" in literal or re.fullmatch("[0-9]{4}", literal) else "write a date in quotes"
