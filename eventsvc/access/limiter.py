"""Token buckets in memory that all worker processes of a service share; the generic cell rate algorithm.

A bucket is one number, the time at which it will be full again, so two processes that write it at once can lose one
request's count and nothing else. Buckets are found by a hash: two names may share one, of 65,536.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import secrets
import time
from dataclasses import dataclass

from eventsvc.access.rights import Rate

_SLOTS = 65_536
_DOUBLE = 8  # bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request.

    Attributes:
        wait: seconds until the next is allowed; 0 if this one is.
        left: how many more are allowed at once.
        full: seconds until the bucket is full again.
    """

    wait: float
    left: int
    full: float


class Limiter:
    """Counts requests by name; make it before the worker processes are forked."""

    def __init__(self) -> None:
        self._full = memoryview(mmap.mmap(-1, _SLOTS * _DOUBLE)).cast("d")
        self._secret = secrets.token_bytes(16)  # or an attacker would find addresses that share a bucket

    def take(self, name: str, rate: Rate) -> Taken:
        """Take one from a bucket that holds ``rate.requests`` and is filled in ``rate.seconds``."""
        slot, now = self._slot(name), time.monotonic()
        step = rate.seconds / rate.requests
        full = max(self._full[slot], now) + step
        if full - now > rate.seconds + step / 1000:
            return Taken(full - now - rate.seconds, 0, full - step - now)
        self._full[slot] = full
        return Taken(0.0, math.floor((rate.seconds - (full - now)) / step + 0.001), full - now)

    def _slot(self, name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4, key=self._secret).digest()) % _SLOTS
