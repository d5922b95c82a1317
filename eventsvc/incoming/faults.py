"""The slow pass: find every fault of an event that was refused, with its place.

The fast pass in ``parser.py`` only finds out *that* something may be wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from email_validator import EmailNotValidError, validate_email

from eventsvc import limits
from eventsvc.errors import Fault, InvalidEvents
from eventsvc.fields import SENT
from eventsvc.incoming.lenient_json import Pairs, Wrong, load
from eventsvc.incoming.names import OTHERS
from eventsvc.incoming.occurred import read_occurred
from eventsvc.text import numbers
from eventsvc.text.sanitize import sanitize_characters

EmailFault = Callable[[str], "str | None"]

_GIVEN = {
    "id": "is given by the service; leave it out",
    "createdAt": "is given by the service, when it stores the event; say in occurredAt when it happened",
}
_OWN = "anything of your own goes into data, where shape=any in the URL of POST /event puts it"
_OTHERS = "shape=any in the URL of POST /event takes the records of other loggers"
_INTERNAL = frozenset({"localhost", "local", "test", "invalid", "onion", "arpa"})
_SURROGATE = re.compile("[\ud800-\udfff]")


def explain(raw: bytes, email_fault: EmailFault) -> Any:
    """Raise with all faults of an event; if there are none, return the event as ``load`` does.

    Raises:
        InvalidBody: the text is not JSON.
        InvalidEvents: the event breaks rules.
    """
    event = load(raw)
    found, total = find(event, email_fault)
    if found:
        raise InvalidEvents(tuple(found), total=total)
    return event


def find(event: Any, email_fault: EmailFault) -> tuple[list[Fault], int]:
    """List the first faults of an event that ``load`` gave, and count all its faults."""
    found: list[Fault] = []
    total = 0
    for fault in _check_event(event, email_fault):
        total += 1
        if len(found) < limits.FAULTS:
            found.append(fault)
    return found, total


def email_fault(text: str) -> str | None:
    """Say what is wrong with an address; None if nothing is. Names of internal hosts are allowed."""
    if len(text) > limits.EMAIL:
        return _too_long(text, limits.EMAIL)
    label = re.split("[.@]", text)[-1]
    internal = label.lower() in _INTERNAL
    # The validator refuses all names of internal hosts, so it gets another name of the same length.
    shown = text[: -len(label)] + "z" * len(label) if internal else text
    try:
        validate_email(shown, check_deliverability=False, globally_deliverable=not internal)
    except EmailNotValidError as exc:
        return f"is not a valid e-mail address: {exc}"
    return None


def text_fault(name: str, value: object, email_fault: EmailFault) -> str | None:
    """Say what is wrong with the value of email, environment or component; None if nothing is."""
    found = next(_check_text("", value, limits.LONGEST[name]), None)
    if found is not None:
        return found.detail
    return email_fault(str(value)) if name == "email" else None


def _data_too_large(size: int) -> str:
    """Write the fault of data that is too large."""
    return f"is {size:,} bytes of compact JSON; at most {limits.DATA_BYTES:,} are allowed"


def _check_event(event: Any, email_fault: EmailFault) -> Iterator[Fault]:
    if not isinstance(event, Pairs):
        yield Fault("", f"must be a JSON object, not {_type_name(event)}")
        return
    yield from _check_twice(event, "")
    for name, longest in limits.LONGEST.items():
        if name not in event:
            yield Fault(f"/{name}", "is required")
        else:
            yield from _check_text(f"/{name}", event[name], longest)
    if isinstance(event.get("email"), str) and 0 < len(event["email"]) <= limits.EMAIL:
        reason = email_fault(event["email"])
        if reason is not None:
            yield Fault("/email", reason)
    if event.get("occurredAt") is not None:
        yield from _check_occurred(event["occurredAt"])
    unknown = [name for name in event if name not in SENT]
    # PERF: the search for near names is slow, so it is made only for faults that can be in the answer.
    yield from (_unknown(name, near=number < limits.FAULTS) for number, name in enumerate(unknown))
    if "data" in event:
        yield from _check_data(event["data"])


def _check_occurred(value: Any) -> Iterator[Fault]:
    try:
        read_occurred(value)
    except ValueError as exc:
        yield Fault("/occurredAt", str(exc))


def _check_text(pointer: str, value: Any, longest: int) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield Fault(pointer, f"must be a string, not {_type_name(value)}")
        return
    if not value:
        yield Fault(pointer, "must not be empty")
    elif len(value) > longest:
        yield Fault(pointer, _too_long(value, longest))
    yield from _check_characters(pointer, value, "")


def _check_characters(pointer: str, text: str, where: str) -> Iterator[Fault]:
    if "\0" in text:
        yield Fault(pointer, f"{where}contains a NUL character (\\u0000), which cannot be stored")
    surrogate = _SURROGATE.search(text)
    if surrogate:
        code = f"\\u{ord(surrogate[0]):04x}"
        yield Fault(pointer, f"{where}contains half of a surrogate pair ({code}), which is not a character")


def _check_data(data: Any) -> Iterator[Fault]:
    clean = True
    for fault in _walk(data, "/data", 0):
        clean = False
        yield fault
    if clean:
        size = len(numbers.encode(data))
        if size > limits.DATA_BYTES:
            yield Fault("/data", _data_too_large(size))


def _walk(value: Any, pointer: str, depth: int) -> Iterator[Fault]:
    if isinstance(value, Wrong):
        yield Fault(pointer, value.detail)
    elif isinstance(value, str):
        yield from _check_characters(pointer, value, "")
    elif isinstance(value, Pairs | list):
        if depth == limits.DATA_DEPTH:
            yield Fault(_cut(pointer), f"is nested deeper than {limits.DATA_DEPTH} levels")
        else:
            yield from _walk_inside(value, pointer, depth + 1)


def _walk_inside(value: Pairs | list[Any], pointer: str, depth: int) -> Iterator[Fault]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{pointer}/{index}", depth)
        return
    yield from _check_twice(value, pointer)
    for key, item in value.items():
        yield from _check_characters(pointer, key, "has a key that ")
        yield from _walk(item, f"{pointer}/{_escape(key)}", depth)


def _check_twice(value: Pairs, pointer: str) -> Iterator[Fault]:
    for key in value.twice:
        hint = f"; {_OTHERS}" if not pointer and key in OTHERS else ""
        yield Fault(_cut(f"{pointer}/{_escape(key)}"), f"is given more than once{hint}")


def _unknown(name: str, *, near: bool) -> Fault:
    pointer = _cut(f"/{_escape(name)}")
    if name in _GIVEN:
        return Fault(pointer, _GIVEN[name])
    if name in OTHERS:
        return Fault(pointer, f"is not a field of an event; {_OTHERS}")
    close = difflib.get_close_matches(name[:50], SENT, n=1) if near else []
    hint = f"did you mean {close[0]}?" if close else _OWN
    return Fault(pointer, f"is not a field of an event; {hint}")


def _escape(key: str) -> str:
    return sanitize_characters(key).replace("~", "~0").replace("/", "~1")


def _cut(pointer: str) -> str:
    return pointer if len(pointer) <= 200 else f"{pointer[:199]}…"  # noqa: PLR2004  (long enough to find the place)


def _too_long(text: str, longest: int) -> str:
    return f"has {len(text):,} characters; at most {longest:,} are allowed"


def _type_name(value: Any) -> str:
    if isinstance(value, Wrong):
        return "a number"
    names: dict[type, str] = {
        bool: "a boolean",
        int: "a number",
        Decimal: "a number",
        str: "a string",
        list: "an array",
    }
    return "null" if value is None else names.get(type(value), "an object")
