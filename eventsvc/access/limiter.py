"""Token buckets in memory that all worker processes of a service share, by the generic cell rate algorithm.

A bucket is one number: the time at which it is full again. If two processes write a bucket at once, the count of one
request is lost and nothing else. A hash selects one of 65,536 buckets, so two names may share a bucket.
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
    """The result of a request to a bucket.

    Attributes:
        wait: seconds until the next request is allowed; 0 if this request is allowed.
        left: how many more requests are allowed at once.
        full: seconds until the bucket is full again.
    """

    wait: float
    left: int
    full: float


class Limiter:
    """Counts requests by name. Make the limiter before the worker processes are forked."""

    def __init__(self) -> None:
        self._full = memoryview(mmap.mmap(-1, _SLOTS * _DOUBLE)).cast("d")
        self._secret = secrets.token_bytes(16)  # without it, an attacker could find addresses that share a bucket

    def take(self, name: str, rate: Rate) -> Taken:
        """Take one token from a bucket that holds ``rate.requests`` tokens and fills up in ``rate.seconds``."""
        slot, now = self._slot(name), time.monotonic()
        step = rate.seconds / rate.requests
        full = max(self._full[slot], now) + step
        if full - now > rate.seconds + step / 1000:
            return Taken(full - now - rate.seconds, 0, full - step - now)
        self._full[slot] = full
        return Taken(0.0, math.floor((rate.seconds - (full - now)) / step + 0.001), full - now)

    def _slot(self, name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4, key=self._secret).digest()) % _SLOTS
