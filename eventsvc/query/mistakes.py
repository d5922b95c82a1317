"""What went wrong in a query that the grammar refuses: the place, what could stand there, and a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput

from eventsvc.errors import QueryError

if TYPE_CHECKING:
    pass

COMPARISON = ("a comparison such as message ct 'text'",)


def explain(text: str, grammar: Lark) -> QueryError:
    """Say what is wrong with text, which grammar has refused."""
    parser = grammar.parse_interactive(text)
    try:
        for _ in parser.iter_parse():
            pass
        parser.feed_eof()
    except UnexpectedCharacters as exc:
        return QueryError("cannot be read", text=text, offset=exc.pos_in_stream)
    except UnexpectedInput as exc:
        token = getattr(exc, "token", None)
        if isinstance(token, Token) and token.type != "$END":
            return QueryError(f"unexpected {token}", text=text, offset=token.start_pos or 0, width=len(token))
    return QueryError("the query ends too early", text=text, offset=len(text))
