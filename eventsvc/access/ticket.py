"""Tickets. A browser's EventSource cannot send a key in a header, so it sends a ticket in the URL.

A ticket holds the id of its key and the time of its end, signed with the key's digest, which every process knows. So
tickets are not stored, and a ticket ends with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from eventsvc.access.keys import Keys
from eventsvc.access.rights import Grant
from eventsvc.errors import Unauthenticated

LIFETIME = 60  # seconds in which a ticket can open a stream; the stream itself may last longer


def make_ticket(grant: Grant) -> str:
    """Make a ticket that stands for a key."""
    content = f"{grant.id}.{int(time.time()) + LIFETIME}"
    return f"{content}.{_sign(grant, content)}"


def redeem(keys: Keys, ticket: str) -> Grant:
    """Find the grant of a ticket's key.

    Raises:
        Unauthenticated: the text is not a ticket, the ticket's time is up, or its key was revoked.
        LogUnavailable: the keys were last read more than an hour ago.
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
