#!/usr/bin/env python3
"""Run a command as the user postgres, with Patroni's passwords in the environment of this process alone.

patroni-node patroni /etc/patroni.yml    what the container runs
patroni-node patronictl switchover       for people: docker compose exec postgres patroni-node patronictl …
patroni-node --ready                     the health check: 0 for a primary, and for a standby that follows one
"""

import base64
import json
import os
import pwd
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PASSWORD = Path("/run/eventsvc/password")
DATA = Path("/var/lib/postgresql/18/docker")
# Patroni keeps the number of the database system here once there is one.
SYSTEM = "/service/eventsvc/initialize"
ETCD = ("etcd-1", "etcd-2", "etcd-3")


def become_postgres() -> None:
    """Leave root, after the data were given to the user postgres: a volume may come from the plain image."""
    user = pwd.getpwnam("postgres")
    for folder in (DATA.parent.parent, DATA.parent):
        folder.mkdir(exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir


def is_ready() -> bool:
    """Ask Patroni. A standby is ready when it streams, so all three are ready only when there is a primary."""
    try:
        urllib.request.urlopen("http://127.0.0.1:8008/readiness?lag=100MB", timeout=4).close()
    except OSError:  # 503 is one, too
        return False
    return True


def database_exists() -> bool:
    """Ask etcd whether the first node has made or brought its database."""
    question = json.dumps({"key": base64.b64encode(SYSTEM.encode()).decode()}).encode()
    for host in ETCD:
        try:
            with urllib.request.urlopen(f"http://{host}:2379/v3/kv/range", data=question, timeout=4) as answer:
                return any(pair.get("value") for pair in json.load(answer).get("kvs", []))
        except OSError:
            continue
    return False


def wait_for_first_node() -> None:
    """Let an empty node wait: it must never make a database of its own beside the one of the first node."""
    while not (DATA / "PG_VERSION").exists() and not database_exists():
        time.sleep(1)


def main() -> None:
    """Do what the arguments say."""
    command = sys.argv[1:]
    if command == ["--ready"]:
        sys.exit(not is_ready())
    if os.getuid() == 0:
        become_postgres()
    os.environ["PATRONI_RESTAPI_USERNAME"] = "patroni"
    for name in ("SUPERUSER", "REPLICATION", "REWIND", "RESTAPI"):
        os.environ[f"PATRONI_{name}_PASSWORD"] = PASSWORD.read_text(encoding="ascii").strip()
    if command[0] == "patroni" and os.environ["PATRONI_NAME"] != "postgres":
        wait_for_first_node()
    os.execvp(command[0], command)  # noqa: S606  (nothing here is a shell's)


if __name__ == "__main__":
    main()
