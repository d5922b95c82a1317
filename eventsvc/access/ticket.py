"""Tickets: what a browser's EventSource sends in the URL instead of a key, which it cannot send as a header.

A ticket names its key and its end, signed with the key's digest, which every process knows: nothing is stored, and a
ticket ends with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from eventsvc.access.keys import Keys
from eventsvc.access.rights import Grant
from eventsvc.errors import Unauthenticated

LIFETIME = 60  # seconds in which a stream can be opened with it; the stream itself may last


def make_ticket(grant: Grant) -> str:
    """Make a ticket that stands for a key."""
    content = f"{grant.id}.{int(time.time()) + LIFETIME}"
    return f"{content}.{_sign(grant, content)}"


def redeem(keys: Keys, ticket: str) -> Grant:
    """Give what the key of a ticket allows.

    Raises:
        Unauthenticated: it is none, or its time is up, or its key was taken back.
    """
    content, _, signature = ticket.rpartition(".")
    identity, _, end = content.partition(".")
    grant = keys.find_by_id(identity)
    if grant is not None and hmac.compare_digest(signature.encode(), _sign(grant, content).encode()):
        if int(end) >= time.time():
            return grant
        raise Unauthenticated("this ticket's time is up: get another one with POST /ticket")
    raise Unauthenticated("this is no ticket, or its key was taken back")


def _sign(grant: Grant, content: str) -> str:
    return hmac.new(grant.digest, b"eventsvc ticket " + content.encode(), hashlib.sha256).hexdigest()
