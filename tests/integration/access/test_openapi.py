"""The live service describes itself, and does what it says: schemathesis asks all that is allowed, and more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_the_description_and_its_page_need_no_key_and_nothing_else(world: Any) -> None:
    described, page = (world.service.ask("GET", path) for path in ("/openapi.json", "/docs"))

    assert (described.status, page.status) == (200, 200)
    assert described.json["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    assert "'none'" in page.headers["content-security-policy"]


@pytest.mark.timeout(900)
def test_the_service_does_what_it_says(world: Any, tmp_path: Path) -> None:
    key = world.make_key("read", "write", "erase", "admin", "audit")
    url = f"http://127.0.0.1:{world.service.port}"
    options = ["--url", url, "-H", f"Authorization: Bearer {key}", "-n", "10", "--suppress-health-check", "all"]
    options += ["--generation-deterministic", "--request-timeout", "60"]  # the same examples in every run
    command = [SCHEMATHESIS, "--config-file", FOLDER / "schemathesis.toml", "run", f"{url}/openapi.json", *options]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(FOLDER / "schemathesis_hooks.py")}

    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Stateful" in done.stdout
