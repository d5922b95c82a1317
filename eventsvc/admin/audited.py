"""Note in the audit the actions of commands on keys, erasures and retention."""

from __future__ import annotations

import getpass
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec

from eventsvc.access.audit import EMAIL, ENVIRONMENT
from eventsvc.access.rights import AUDIT_COMPONENT
from eventsvc.access.store import any_key
from eventsvc.log import schema
from eventsvc.log.connection import Connection, translate_errors
from eventsvc.settings import Settings, find

_INSERT = """
INSERT INTO event (id, email, environment, component, message, data) VALUES (%s, %s, %s, %s, %s, %s)
"""


def user_name() -> str:
    """Give the name of the user who runs this command. A container may know only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def open_log(database_url: str | None, application_name: str) -> Iterator[tuple[Connection, Callable[..., None]]]:
    """Connect to the log; give the connection, and ``note`` for this connection."""
    settings = find(database_url=database_url)
    url = settings.database_url.get_secret_value()
    with schema.session(url, application_name=application_name) as connection:
        yield connection, partial(note, connection, settings)


def note(
    connection: Connection,
    settings: Settings,
    command: str,
    details: dict[str, Any],
    values: dict[str, str] | None = None,
) -> None:
    """Store an audit event about an action of a command, if keys are in use and the audit is on.

    Args:
        connection: a connection in autocommit mode.
        settings: tell whether the audit is on, and whether the audit records queries.
        command: the name of the command, without arguments.
        details: what was made, erased or changed; ``events`` is the number of events.
        values: the queries, which are noted only if the setting says so.

    Raises:
        LogError: PostgreSQL is away. The command has done its work, and the audit does not have it.
    """
    with translate_errors():
        if settings.audit == "off" or not any_key(connection):
            return
        user = user_name()
        shown = (values or {}) if settings.audit == "values" else {}
        data = {"key": None, "who": "command", "user": user, "command": command, "requests": 1, "events": 0}
        message = f"{user}: eventsvc {command}"
        row = (str(uuid.uuid4()), EMAIL, ENVIRONMENT, AUDIT_COMPONENT, message)
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, (*row, msgspec.json.encode(data | shown | details).decode()))
