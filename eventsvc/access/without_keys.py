"""Decide whether a service without keys lets everybody in: on a loopback address, or if a setting says so."""

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
    """Tell whether the service lets everybody in as long as no key was ever made."""
    return settings.open or _is_loopback(settings.host)


def check_start(settings: Settings) -> None:
    """Refuse to start a service that other machines can reach and that has no key.

    While PostgreSQL is away, the service starts, but lets nobody in until it has read the keys.

    Raises:
        SetupError: there is no key. The text says how to make one.
    """
    if may_be_open(settings) or has_key(settings) is not False:
        return
    raise SetupError(
        f"others can reach {settings.host}, and there is no key: make one with `{MAKE_ONE}`,"
        " or let everybody in with EVENTSVC_OPEN=true"
    )


def has_key(settings: Settings) -> bool | None:
    """Tell whether a key was ever made; None if PostgreSQL does not answer."""
    try:
        with (
            closing(connect(settings.database_url.get_secret_value(), statement_timeout=5)) as connection,
            translate_errors(),
        ):
            return any_key(connection)
    except LogError:
        return None


def _is_loopback(host: str) -> bool:
    """Tell whether every address of the host's name is a loopback address."""
    try:
        found = {str(address[4][0]).partition("%")[0] for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)
