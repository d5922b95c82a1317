"""A PostgreSQL of our own to be measured, the event that is stored, and what pgbench makes of both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventsvc.dev.postgres import LocalPostgres, binaries
from eventsvc.dev.server import wait_until_ready

EVENT: dict[str, Any] = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "buyer-api",
    "message": "the buyer #123456 has placed an order of 12 boxes",
    "data": {"order_id": 123456, "amount": 300.5, "tags": ["a", "b7"]},
}


@contextmanager
def running_postgres() -> Iterator[tuple[LocalPostgres, Path]]:
    """Start the server; give it and the folder of its programs."""
    programs = binaries()
    if programs is None:
        sys.exit("pip install eventsvc[local]")
    with tempfile.TemporaryDirectory(prefix="eventsvc-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        server = LocalPostgres(Path(name) / "postgres", log=Path(name) / "log", programs=programs)
        server.start()
        try:
            wait_until_ready(server, timeout=60)
            yield server, programs
        finally:
            server.stop()


def pgbench(url: str, programs: Path, clients: int, seconds: float) -> float:
    """Insert events one by one from so many clients; give the events a second."""
    values = ", ".join(f"'{text}'" for text in [*list(EVENT.values())[:4], json.dumps(EVENT["data"])])
    statement = (
        f"INSERT INTO event (id, email, environment, component, message, data) VALUES (gen_random_uuid(), {values});\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(statement)
        script.flush()
        command = [str(programs / "pgbench"), "-n", "-f", script.name, "-c", str(clients), "-j", str(min(clients, 2))]
        done = subprocess.run(
            [*command, "-T", str(round(seconds)), url], check=True, capture_output=True, text=True
        ).stdout
    match = re.search(r"tps = ([\d.]+)", done)
    return float(match[1]) if match else 0.0
