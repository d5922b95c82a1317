"""Read the string, number and path literals of a query."""

from __future__ import annotations

import re
from decimal import Decimal

from eventsvc.text import numbers
from eventsvc.text.numbers import JSON_NUMBER

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.?))", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "'": "'", '"': '"'}
_KEY = re.compile(r"""\.(?:([\w@$-]+)|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))|\[([0-9]+)\]|(\[\*?\]|\.\*)""", re.DOTALL)


class WrongLiteral(Exception):
    """A literal cannot be read; the exception's text says why.

    Attributes:
        offset: where the fault begins in the literal.
        width: how many characters are wrong.
        hint: what to write instead; may be empty.
    """

    def __init__(self, reason: str, offset: int, width: int, hint: str = "") -> None:
        self.offset, self.width, self.hint = offset, width, hint
        super().__init__(reason)


def read_string(literal: str) -> str:
    """Read a quoted string: remove the quotes and replace the escapes.

    Raises:
        WrongLiteral: an escape is unknown, or stands for a character that no event may hold.
    """
    if "\\" not in literal:
        return literal[1:-1]
    # A pair of surrogate escapes is one character, as in JSON.
    text = _ESCAPE.sub(_unescape, literal[1:-1])
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if joined != text and "\ufffd" in joined and joined.count("\ufffd") > text.count("\ufffd"):
        raise WrongLiteral("half of a surrogate pair is no character", 0, len(literal))
    return joined


def _unescape(match: re.Match[str]) -> str:
    if match[1]:
        char = chr(int(match[1], 16))
    elif match[2] in _PLAIN_ESCAPES:
        char = _PLAIN_ESCAPES[match[2]]
    else:
        hint = "for a backslash itself write two: \\\\"
        raise WrongLiteral(f"\\{match[2]} is no escape", match.start() + 1, len(match[0]), hint)
    if char == "\0":
        raise WrongLiteral("U+0000 is in no event, and cannot be asked for", match.start() + 1, len(match[0]))
    return char


def read_number(literal: str) -> Decimal:
    """Read a JSON number exactly.

    Raises:
        WrongLiteral: the literal is no JSON number, or the number is larger or finer than data can hold.
    """
    if not JSON_NUMBER.fullmatch(literal):
        raise WrongLiteral(f"{literal} is not a number as JSON writes it", 0, len(literal))
    try:
        return numbers.read(literal)
    except numbers.OutOfRange as exc:
        raise WrongLiteral(f"the number {exc}", 0, len(literal)) from exc


def read_path(field: str) -> tuple[str, tuple[str, ...]]:
    """Split a field into its first name and the keys after the name.

    An array index such as ``[0]`` is a key. ``[]`` and ``[*]``, which mean every element, are not.

    Raises:
        WrongLiteral: a quoted key has a wrong escape, or ``*`` stands for a key.
    """
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    keys = []
    for match in _KEY.finditer(field, len(name)):
        if match[4]:
            if match[4] == ".*" and field != f"{name}.*":
                hint = "name the keys, or write data for every path"
                raise WrongLiteral("* cannot stand for a key of a path", match.start(4) + 1, 1, hint)
            continue
        try:
            keys.append(match[1] or match[3] or read_string(match[2]))
        except WrongLiteral as exc:
            raise WrongLiteral(str(exc), match.start(2) + exc.offset, exc.width, exc.hint) from exc
    return name, tuple(keys)
