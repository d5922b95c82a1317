"""Choose the user of a server. PostgreSQL and Elasticsearch refuse to run as root, so root gives them another id."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

# Any id without a user is right. The ids begin at a fixed number, so the data has the same owner at the next start.
_FIRST_UID = 47_900
_CHOICES = 100


def server_uid() -> int | None:
    """Choose the user id of servers; None for the current user, who is not root."""
    if os.geteuid() != 0:
        return None
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(_FIRST_UID, _FIRST_UID + _CHOICES) if uid not in taken)


def named_uid() -> int | None:
    """Choose a user id that has a name, because initdb needs the name; None for the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def give(folder: Path, uid: int | None) -> None:
    """Make ``uid`` the owner of a folder and of everything in the folder; links are not followed."""
    if uid is None or folder.lstat().st_uid == uid:
        return
    for path in folder.rglob("*"):
        os.chown(path, uid, uid, follow_symlinks=False)
    # The folder itself comes last: the condition above takes its owner as the sign that all is done.
    os.chown(folder, uid, uid)


def reach_hint(log: str) -> str:
    """Explain a log in which the user of a server may not reach files of ours; "" for any other log."""
    if os.geteuid() != 0 or "Permission denied" not in log:
        return ""
    return (
        "\nServers do not run as root, and the user they run as must be able to reach data and programs: "
        "take folders that all may enter (DATA=/var/tmp/events, the checkout too), or run this as an ordinary user."
    )
