"""What commands do with keys, erasures and retention, noted in the audit beside what is done over HTTP."""

from __future__ import annotations

import getpass
import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from eventsvc.access.audit import EMAIL, ENVIRONMENT
from eventsvc.access.rights import AUDIT_COMPONENT
from eventsvc.access.store import any_key
from eventsvc.log.connection import translate_errors

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection
    from eventsvc.settings import Settings

_INSERT = """
INSERT INTO event (id, email, environment, component, message, data) VALUES (%s, %s, %s, %s, %s, %s)
"""


def user_name() -> str:
    """Give the operating system's name of who runs this command; a container may know only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def note(
    connection: Connection,
    settings: Settings,
    command: str,
    details: dict[str, Any],
    values: dict[str, str] | None = None,
) -> None:
    """Store an event that says what a command did, where keys are in use and the audit is on.

    Args:
        connection: in autocommit mode.
        settings: say whether there is an audit, and whether it holds values of queries.
        command: without what follows its name.
        details: what was made, erased or changed; ``events`` is how many there were.
        values: queries, noted if the setting says so.

    Raises:
        LogError: PostgreSQL is away; the command has done its work, and the audit does not know.
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
