"""Keys in PostgreSQL: make, list, revoke and rotate keys, and load the grants of all valid keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from psycopg2 import sql
from psycopg2.extras import Json

from eventsvc.access.key_text import digest, is_whole, key_id, make_key
from eventsvc.access.rights import Grant, Restriction, Right, read_rate
from eventsvc.errors import InvalidInput, InvalidParameter, KeyNotFound, SetupError
from eventsvc.fields import SHORT
from eventsvc.incoming.parser import EventParser
from eventsvc.log.connection import Connection, fetch, transaction
from eventsvc.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_COLUMNS = sql.SQL(
    "id, name, rights, restriction, defaults, rate, created_at, expires_at, revoked_at, last_used_at"  # Key's
)
_GOOD = sql.SQL("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())")
_LOCK = "LOCK TABLE access_key IN SHARE ROW EXCLUSIVE MODE"
_INSERT = sql.SQL(
    "INSERT INTO access_key (id, name, hash, rights, restriction, defaults, rate, expires_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, now() + %s) RETURNING {}"
).format(_COLUMNS)
_LIST = sql.SQL("SELECT {} FROM access_key ORDER BY created_at, id").format(_COLUMNS)
_BY_NAME = sql.SQL("SELECT {} FROM access_key WHERE name = %s AND {}").format(_COLUMNS, _GOOD)
_REVOKE = sql.SQL("UPDATE access_key SET revoked_at = now() WHERE (name = %s OR id = %s) AND {} RETURNING id").format(
    _GOOD
)
_REVOKE_ID = sql.SQL("UPDATE access_key SET revoked_at = now() WHERE id = %s AND {} RETURNING id").format(_GOOD)
_GRANTS = sql.SQL("SELECT {}, hash, id, name, rights, restriction, defaults, rate FROM access_key").format(_GOOD)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The properties of a key that is to be made."""

    name: str
    rights: Collection[str]
    where: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    rate: str = ""
    expires: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as lists show it."""

    id: str
    name: str
    rights: list[str]
    where: str
    defaults: dict[str, str]
    rate: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def state(self) -> str:
        """The state of the key: good, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "good"

    def to_json(self) -> dict[str, Any]:
        """Give the form that lists show, with members in the order of the columns."""
        return {
            "id": self.id,
            "name": self.name,
            "rights": self.rights,
            "where": self.where,
            "defaults": self.defaults,
            "rate": self.rate,
            "state": self.state,
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "revokedAt": self.revoked_at,
            "lastUsedAt": self.last_used_at,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """A new key with its text, which is not stored anywhere."""

    text: str = field(repr=False)
    key: ApiKey


def create(connection: Connection, wanted: Wanted) -> Made:
    """Make a key.

    Raises:
        InvalidInput: a property makes no sense, or a good key has the name already.
    """
    _check(wanted)
    with transaction(connection) as cursor:
        cursor.execute(_LOCK)
        cursor.execute(_BY_NAME, (wanted.name,))
        if cursor.fetchall():
            raise InvalidParameter("NAME", f"there is a key named {wanted.name}: rotate or revoke it")
        return _insert(cursor, wanted, make_key())


def install(connection: Connection, wanted: Wanted, text: str) -> bool:
    """Store a key whose text exists already, unless the key was ever stored before; tell whether it is new.

    Raises:
        SetupError: the text is not a key.
    """
    if not is_whole(text):
        raise SetupError(f"the key {wanted.name} is not one that `eventsvc admin secrets` made")
    with transaction(connection) as cursor:
        cursor.execute(_LOCK)
        cursor.execute("SELECT count(*) FROM access_key WHERE hash = %s", (digest(text),))
        if cursor.fetchall()[0][0]:
            return False
        _insert(cursor, wanted, text)
        return True


def install_first_keys(connection: Connection, settings: Settings) -> list[str]:
    """Store the keys that the settings contain, once; return the names of the new keys.

    Raises:
        SetupError: a text is not a key.
    """
    first = (("admin", settings.admin_key, list(Right)), ("metrics", settings.metrics_key, [Right.METRICS]))
    found = [(Wanted(name, rights), secret.get_secret_value()) for name, secret, rights in first]
    return [wanted.name for wanted, text in found if text and install(connection, wanted, text)]


def rotate(connection: Connection, name: str, grace: timedelta) -> Made:
    """Make a key with the properties of the good key of this name. The old key expires after ``grace``.

    Raises:
        InvalidParameter: there is no such key, or another rotation is under way.
    """
    with transaction(connection) as cursor:
        cursor.execute(_LOCK)
        cursor.execute(_BY_NAME, (name,))
        found = [_key(row) for row in cursor]
        if len(found) != 1:
            detail = "no good key has this name" if not found else "the last rotation is still going on: revoke an id"
            raise InvalidParameter("NAME", detail)
        old = found[0]
        life = None if old.expires_at is None else old.expires_at - old.created_at
        cursor.execute(
            "UPDATE access_key SET expires_at = least(expires_at, now() + %s) WHERE id = %s", (grace, old.id)
        )
        return _insert(cursor, Wanted(name, old.rights, old.where, old.defaults, old.rate, life), make_key())


def revoke(connection: Connection, name: str) -> list[str]:
    """Revoke the key of this id, or all good keys of this name; return their ids.

    Raises:
        InvalidParameter: there is no such key.
    """
    found = [text for (text,) in fetch(connection, _REVOKE, (name, name))]
    if not found:
        raise InvalidParameter("NAME", "no good key has this name or id")
    return sorted(found)


def name_of(connection: Connection, key_id: str) -> str:
    """Give the name of a good key.

    Raises:
        KeyNotFound: no good key has this id.
    """
    found = [key.name for key in list_keys(connection) if key.id == key_id and key.state == "good"]
    if not found:
        raise KeyNotFound(key_id)
    return found[0]


def revoke_id(connection: Connection, key_id: str) -> list[str]:
    """Revoke the key of this id; return the id.

    Raises:
        KeyNotFound: no good key has this id.
    """
    found = [text for (text,) in fetch(connection, _REVOKE_ID, (key_id,))]
    if not found:
        raise KeyNotFound(key_id)
    return found


def list_keys(connection: Connection) -> list[ApiKey]:
    """List every key there ever was, oldest first."""
    return [_key(row) for row in fetch(connection, _LIST)]


def any_key(connection: Connection) -> bool:
    """Tell whether a key was ever made."""
    return bool(fetch(connection, "SELECT 1 FROM access_key LIMIT 1"))


def load_grants(connection: Connection) -> tuple[bool, dict[bytes, Grant]]:
    """Tell whether a key was ever made, and map the digests of good keys to their grants."""
    rows = fetch(connection, _GRANTS)
    grants = [_grant(row[1:]) for row in rows if row[0]]
    return bool(rows), {grant.digest: grant for grant in grants}


def _grant(row: tuple[Any, ...]) -> Grant:
    hashed, identity, name, names, where, defaults, rate = row
    rights = frozenset(map(Right, names))
    kept = msgspec.json.decode(defaults, type=dict[str, str])
    return Grant(identity, name, bytes(hashed), rights, where, kept, read_rate(rate), Restriction(where, rights))


def note_use(connection: Connection, used: Mapping[str, int]) -> None:
    """Store when keys were last used, in seconds since 1970."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE access_key SET last_used_at = greatest(last_used_at, to_timestamp(seen.at))"
            " FROM unnest(%s, %s) AS seen (id, at) WHERE access_key.id = seen.id",
            (list(used), [float(at) for at in used.values()]),
        )


def _insert(cursor: Any, wanted: Wanted, text: str) -> Made:
    cursor.execute(
        _INSERT,
        (
            key_id(text),
            wanted.name,
            digest(text),
            sorted({Right(one) for one in wanted.rights}),
            wanted.where,
            Json(dict(wanted.defaults)),
            wanted.rate,
            wanted.expires,
        ),
    )
    return Made(text, _key(cursor.fetchall()[0]))


def _key(row: tuple[Any, ...]) -> ApiKey:
    identity, name, rights, where, defaults, *rest = row
    return ApiKey(identity, name, rights, where, msgspec.json.decode(defaults), *rest)


def _check(wanted: Wanted) -> None:
    if not _NAME.fullmatch(wanted.name):
        raise InvalidParameter("NAME", "1 to 63 letters, digits, dots, dashes and underscores, no dash or dot first")
    if not wanted.rights:
        raise InvalidParameter("--right", f"name at least one of {', '.join(Right)}")
    read_rate(wanted.rate)
    Restriction(wanted.where, ())
    _check_defaults(wanted.defaults)


def _check_defaults(defaults: Mapping[str, str]) -> None:
    unknown = sorted(set(defaults) - set(SHORT))
    if unknown:
        raise InvalidParameter("--default", f"{unknown[0]} cannot have one; {', '.join(SHORT)} can")
    event = {"email": "a@b.invalid", "environment": "e", "component": "c", "message": "m"} | dict(defaults)
    try:
        EventParser().parse(msgspec.json.encode(event))
    except InvalidInput as exc:
        raise InvalidParameter("--default", str(exc)) from exc
