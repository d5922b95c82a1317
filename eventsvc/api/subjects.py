"""Read a parameter that names fields and paths in data: ``email,data.level,data.'user id'``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eventsvc.errors import InvalidParameter, QueryError
from eventsvc.fields import FIELDS, Kind
from eventsvc.query import ast
from eventsvc.query.parse import parse

_NAMES = re.compile(r"""(?:[^,'"]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
_TEXTS = tuple(field.name for field in FIELDS.values() if field.kind is Kind.TEXT)


def read_subjects(given: Mapping[str, str], parameter: str, *, most: int) -> dict[str, ast.Subject]:
    """Read the fields and paths that a parameter names, by their names.

    Raises:
        InvalidParameter: a name is neither a text field nor a path in data, or there are too many names.
    """
    names = [name.strip() for name in _NAMES.findall(given.get(parameter, ""))]
    found = {name: _read(name, parameter) for name in names if name}
    if len(found) > most:
        raise InvalidParameter(parameter, f"at most {most} can be given")
    return found


def read_paths(given: Mapping[str, str], parameter: str, *, most: int) -> dict[str, ast.Path]:
    """Read the paths in data that a parameter names.

    Raises:
        InvalidParameter: a name is not a path in data, or there are too many names.
    """
    paths: dict[str, ast.Path] = {}
    for name, subject in read_subjects(given, parameter, most=most).items():
        if not isinstance(subject, ast.Path):
            raise InvalidParameter(parameter, f"{name} is text; numbers are in data, for example data.amount")
        paths[name] = subject
    return paths


def _read(name: str, parameter: str) -> ast.Subject:
    try:
        node = parse(f"{name} exists", now=0)
    except QueryError as exc:
        raise InvalidParameter(parameter, f"{name!r}: {exc.reason}{exc.hint and f'; {exc.hint}'}") from exc
    if not isinstance(node, ast.Exists):
        raise InvalidParameter(parameter, f"{name!r} is not a field")
    subject = node.subject
    if isinstance(subject, ast.Path) and not subject.keys:
        raise InvalidParameter(parameter, "data needs a path, for example data.level")
    if isinstance(subject, ast.Name) and subject.name not in _TEXTS:
        raise InvalidParameter(parameter, f"{name} is not among them; there are {', '.join(_TEXTS)} and data.path")
    return subject
