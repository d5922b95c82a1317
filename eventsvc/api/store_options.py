"""The options of a request that stores events: query parameters and headers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventsvc.api.parameters import choice, yes_or_no
from eventsvc.errors import InvalidParameter
from eventsvc.fields import SHORT
from eventsvc.incoming.faults import email_fault, text_fault
from eventsvc.log.write.idempotency import key_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from falcon.asgi import Request

    from eventsvc.access.gate import Gate

PARAMETERS = ("partial", "sanitize", "dryRun", "shape", *SHORT)

_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """The options of a request that stores events.

    Attributes:
        partial: store the good events even if others are bad, and answer 200.
        sanitize: change events that would be refused for their characters or lengths.
        dry_run: check the events, but store nothing.
        prefer: the form of the answer: "representation", "minimal", or "" for the usual form.
        key: the hash of the Idempotency-Key and of its sender.
        gate: applies the API key to each event; None if the key changes and refuses nothing.
        defaults: with shape=any, the fields of events that lack them; None without shape=any.
    """

    partial: bool = False
    sanitize: bool = False
    dry_run: bool = False
    prefer: str = ""
    key: bytes | None = None
    gate: Gate | None = None
    defaults: Mapping[str, str] | None = None

    @property
    def shaped(self) -> bool:
        """Whether records of any shape are taken."""
        return self.defaults is not None

    @property
    def variant(self) -> bytes:
        """The options that decide, with the body, what is stored. They belong to the fingerprint of the request."""
        sanitize = b"" if self.sanitize == self.partial else b"sanitize" if self.sanitize else b"exactly"
        variant = (b"partial" if self.partial else b"") + sanitize
        if self.defaults is None:
            return variant
        return variant + hashlib.blake2b(repr(sorted(self.defaults.items())).encode(), digest_size=32).digest()


_NONE = StoreOptions()


def read_options(req: Request) -> StoreOptions:
    """Read the options of a request.

    Raises:
        InvalidParameter: a parameter or header is unknown or has an impossible value.
    """
    key = req.get_header("Idempotency-Key")
    prefer = req.get_header("Prefer")
    if key is None and prefer is None and not req.query_string:
        return _NONE
    unknown = sorted(set(req.params) - set(PARAMETERS))
    if unknown:
        raise InvalidParameter(unknown[0], f"there is no such parameter; there are {', '.join(PARAMETERS)}")
    defaults = _read_defaults(req)
    partial = _read_flag(req, "partial", default=defaults is not None)
    return StoreOptions(
        partial=partial,
        sanitize=_read_flag(req, "sanitize", default=partial or defaults is not None),
        dry_run=_read_flag(req, "dryRun"),
        prefer=_read_preference(prefer or ""),
        key=None if key is None else key_hash(_read_key(key), req.context.grant.name),
        defaults=defaults,
    )


def _read_defaults(req: Request) -> dict[str, str] | None:
    """Read shape, and the values of fields for events that lack them; None without shape."""
    given: dict[str, str] = {}
    for name in ("shape", *SHORT):
        value = req.params.get(name)
        if isinstance(value, list):
            raise InvalidParameter(name, "it is given more than once")
        if value is not None:
            given[name] = value
    if "shape" not in given:
        for name in given:
            raise InvalidParameter(name, "it goes with shape=any, for events that lack the field")
        return None
    choice(given, "shape", ("any",))
    found = {name: given[name] for name in SHORT if name in given}
    for name, value in found.items():
        if fault := text_fault(name, value, email_fault):
            plus = "; in a URL, + is written as %2B" if " " in value else ""
            raise InvalidParameter(name, f"{fault}{plus}")
    missing = [name for name in SHORT if name not in found and name not in req.context.grant.defaults]
    if missing:
        raise InvalidParameter(missing[0], _missing(missing))
    return found


def _missing(names: list[str]) -> str:
    add = "&".join(f"{name}=…" for name in names)
    return f"with shape=any, events that lack {' or '.join(names)} need a default: add {add} to the URL"


def _read_flag(req: Request, name: str, *, default: bool = False) -> bool:
    return yes_or_no({name: req.get_param(name, default=str(default))}, name)


def _read_preference(text: str) -> str:
    """Read the preference ``return`` (RFC 7240); unknown preferences are ignored."""
    for preference in text.lower().split(","):
        name, _, value = preference.partition("=")
        if name.strip() == "return" and (value := value.partition(";")[0].strip().strip('"')) in _PREFERENCES:
            return value
    return ""


_PREFERENCES = {"representation", "minimal"}


def _read_key(text: str) -> str:
    """Read an Idempotency-Key with or without the quotes of the draft standard."""
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidParameter("Idempotency-Key", f"is 1 to {_LONGEST_KEY} printable ASCII characters")
    return key
