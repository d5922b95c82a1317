"""Idempotency keys, which are recorded in the same transaction as the events of their requests.

group.py (single events) and bulk.py look a repeated key up, and decide:

    another request with the key is running            refuse: ``STILL_RUNNING``
    the key came before with another body              refuse: ``OTHER_BODY``
    a worker of Citus has still to commit the events   refuse: ``STILL_COMMITTING``
    else                                               answer with the events of the first request

The table holds hashes, a seed and a time, but no content. The ids of all events of a request follow from its seed, so
the first answer can be read again from the log, however many events it had.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventsvc.log.read.state import CREATED_AT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventsvc.log.connection import Connection

_KEPT_HOURS = 24

# Why a repeated key is refused.
STILL_RUNNING = "a request with the same Idempotency-Key is still running"
OTHER_BODY = "this Idempotency-Key came before with another body"
STILL_COMMITTING = "a worker has still to commit the request with the same Idempotency-Key"

LOCK = "SELECT lock, pg_try_advisory_xact_lock(lock) FROM unnest(%s::bigint[]) AS lock"
# A statement of its own, after the lock: its snapshot sees what the lock's last holder committed.
FIND = f"""
SELECT key_hash, fingerprint, seed, count, {CREATED_AT}
FROM idempotency_key WHERE key_hash = ANY(%s) AND kept_at > now() - interval '{_KEPT_HOURS} hours'
"""  # noqa: S608  (a constant)
KEEP = """
INSERT INTO idempotency_key (key_hash, fingerprint, seed, count, created_at)
SELECT decode(key_hash, 'hex'), decode(fingerprint, 'hex'), decode(seed, 'hex'), count,
       to_timestamp(created_at / 1000.0)
FROM json_to_recordset(%s) AS kept (key_hash text, fingerprint text, seed text, count integer, created_at bigint)
ON CONFLICT (key_hash) DO UPDATE SET
    fingerprint = excluded.fingerprint, seed = excluded.seed, count = excluded.count,
    created_at = excluded.created_at, kept_at = excluded.kept_at
"""
_PRUNE = f"DELETE FROM idempotency_key WHERE kept_at <= now() - interval '{_KEPT_HOURS} hours'"  # noqa: S608


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key with the fingerprint of the request that carries it.

    Attributes:
        hash: the SHA-256 of the key and its owner; see ``key_hash``.
        fingerprint: a hash of everything that decides what the request stores: its body and some options.
    """

    hash: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """The record of a key.

    Attributes:
        fingerprint: the fingerprint of the request that came with the key; see ``IdempotencyKey``.
        seed: 16 bytes, from which the ids of the request's events follow; see ``derive_id``.
        count: the number of events that the request stored.
        created_at: the createdAt of these events, in ms since 1970.
    """

    fingerprint: bytes
    seed: bytes
    count: int
    created_at: int


def key_hash(key: str, owner: str = "") -> bytes:
    """Hash an Idempotency-Key together with its owner. The key itself is not stored, and owners share no keys."""
    return hashlib.sha256(f"{owner}\0{key}".encode() if owner else key.encode()).digest()


def lock_of(hashed: bytes) -> int:
    """Give the number of an advisory lock, which is held while a request with the key of this hash is running."""
    return int.from_bytes(hashed[:8], "big", signed=True)


def new_seed() -> bytes:
    """Draw the seed that a request's ids follow from."""
    return os.urandom(16)


def derive_id(seed: bytes, number: int) -> bytes:
    """Give the id of a request's event by its number, from 0: a UUID4, as random as its seed."""
    digest = bytearray(hashlib.blake2b(number.to_bytes(8, "big"), key=seed, digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def format_id(raw: bytes) -> str:
    """Write 16 bytes as a canonical UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read_locks(rows: Iterable[tuple[int, bool]]) -> set[int]:
    """Give the locks that we hold now, until the transaction ends, from the rows of LOCK."""
    return {number for number, taken in rows if taken}


def read_kept(rows: Iterable[tuple[Any, ...]]) -> dict[bytes, Kept]:
    """Map the hashes of known keys to their records, from the rows of FIND."""
    return {bytes(row[0]): Kept(bytes(row[1]), bytes(row[2]), row[3], row[4]) for row in rows}


def write_kept(kept: dict[bytes, Kept]) -> str:
    """Write the parameter of KEEP, which records keys and overwrites expired keys."""
    rows = [
        f'{{"key_hash":"{name.hex()}","fingerprint":"{one.fingerprint.hex()}","seed":"{one.seed.hex()}",'
        f'"count":{one.count},"created_at":{one.created_at}}}'
        for name, one in kept.items()
    ]
    return f"[{','.join(rows)}]"


def prune(connection: Connection) -> int:
    """Delete keys older than a day; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PRUNE)
        return int(cursor.rowcount)
