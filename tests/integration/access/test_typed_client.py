"""A client that a generator makes of /openapi.json is typed throughout, and works: ``make typed-client``.

The generator needs an older typer than the service's own, so it lives in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("TYPED_CLIENT_PYTHON", "")

PROGRAM = """
import sys
from uuid import UUID

from client import AuthenticatedClient
from client.api.default import find_events, get_event, store_events
from client.models import Event, NewEvent

url, key = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True) as asker:
    new = NewEvent(email="a@b.c", environment="test", component="typed", message="hello", data={"n": 1})
    stored = store_events.sync(client=asker, body=new)
    assert isinstance(stored, Event) and isinstance(stored.id, UUID), stored
    found = find_events.sync(client=asker, q="component eq 'typed' AND data.n eq 1", limit=5)
    assert isinstance(found, list), found
    assert [event.id for event in found] == [stored.id], found
    again = get_event.sync(stored.id, client=asker)
    assert isinstance(again, Event), again
    assert (again.message, again.created_at) == ("hello", stored.created_at)
"""


@pytest.mark.skipif(not PYTHON, reason="the generator is installed by make typed-client")
def test_a_generated_client_is_typed_and_stores_and_finds_an_event(world: Any, tmp_path: Path) -> None:
    url, key = f"http://127.0.0.1:{world.service.port}", world.make_key("read", "write")
    (tmp_path / "openapi.json").write_bytes(world.service.ask("GET", "/openapi.json").body)
    (tmp_path / "config.yml").write_text("post_hooks: []\n")  # the code need not be pretty
    (tmp_path / "program.py").write_text(PROGRAM)

    _run(tmp_path, *("openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.yml"))
    _run(tmp_path, "mypy", "--cache-dir", "cache", "program.py", "client")
    _run(tmp_path, "program", url, key)


def _run(folder: Path, *words: str) -> None:
    more = ["--meta", "none", "--output-path", "client"] if words[1:2] == ("generate",) else []
    done = subprocess.run(
        [PYTHON, "-m", *words, *more],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
