"""Whether a service may let everybody in: only where nobody but this machine's own users can reach it, or by order."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import closing

from eventsvc.access.store import any_key
from eventsvc.errors import LogError, SetupError
from eventsvc.log.connection import connect, translate_errors
from eventsvc.settings import Settings

MAKE_ONE = "eventsvc admin keys create NAME --right admin --right read --right write"


def may_be_open(settings: Settings) -> bool:
    """Tell whether the service may be used without a key as long as none was ever made."""
    return settings.open or _is_loopback(settings.host)


def check_start(settings: Settings) -> None:
    """Refuse to start a service that others can reach and that has no key.

    Where PostgreSQL is away it starts, and lets nobody in until the keys are known.

    Raises:
        SetupError: says how to make a key.
    """
    if may_be_open(settings) or has_key(settings) is not False:
        return
    raise SetupError(
        f"others can reach {settings.host}, and there is no key: make one with `{MAKE_ONE}`,"
        " or let everybody in with EVENTSVC_OPEN=true"
    )


def has_key(settings: Settings) -> bool | None:
    """Tell whether a key was ever made; None if that cannot be found out."""
    try:
        with (
            closing(connect(settings.database_url.get_secret_value(), statement_timeout=5)) as connection,
            translate_errors(),
        ):
            return any_key(connection)
    except LogError:
        return None


def _is_loopback(host: str) -> bool:
    """Tell whether every address that the host's name stands for is this machine's own."""
    try:
        found = {str(address[4][0]).partition("%")[0] for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)
