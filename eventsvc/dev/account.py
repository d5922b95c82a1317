"""Whom servers run as: PostgreSQL and Elasticsearch refuse root, so under root they get a user id of their own."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

# Any id that nobody has will do; a fixed one, so that the data belongs to the same user at the next start.
_FIRST_UID = 47_900
_CHOICES = 100


def server_uid() -> int | None:
    """The user id that servers run as; None: our own, for we are not root."""
    if os.geteuid() != 0:
        return None
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(_FIRST_UID, _FIRST_UID + _CHOICES) if uid not in taken)


def named_uid() -> int | None:
    """A user id that has a name, for programs that insist on one (initdb); None: our own."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def give(folder: Path, uid: int | None) -> None:
    """Let ``folder`` and all in it belong to ``uid``; nothing outside it is touched."""
    if uid is None or folder.lstat().st_uid == uid:
        return
    for path in folder.rglob("*"):
        os.chown(path, uid, uid, follow_symlinks=False)
    # The folder itself last: seen above, it says that all is done.
    os.chown(folder, uid, uid)


def reach_hint(log: str) -> str:
    """What to do when the servers' user may not reach our files, as a line to append to the log; else ""."""
    if os.geteuid() != 0 or "Permission denied" not in log:
        return ""
    return (
        "\nServers do not run as root, and the user they run as must be able to reach data and programs: "
        "take folders that all may enter (DATA=/var/tmp/events, the checkout too), or run this as an ordinary user."
    )
