"""Tests of the repository that need servers, once more, with both servers in containers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.containers import stack as stacks

# What could depend on how the servers run: their versions, settings and locales. `make test` runs all the others.
CHOSEN = (
    "tests/integration/erasure/test_erase.py",
    "tests/integration/ingest/test_ingest.py",
    "tests/integration/language/test_differential.py",
    "tests/integration/reading/test_pages.py",
    "tests/integration/reading/test_search.py",
    "tests/integration/reading/test_stats.py",
    "tests/integration/test_admin_index.py",
    "tests/integration/test_connection.py",
    "tests/integration/test_horizon.py",
    "tests/integration/test_index_bulk.py",
    "tests/integration/test_indexer.py",
    "tests/integration/test_months.py",
    "tests/integration/test_transfer.py",
    "tests/integration/test_watermark.py",
)
_SECONDS = 1200


@pytest.mark.timeout(_SECONDS + 60)
def test_suite_on_containers(image: str) -> None:
    """What holds on local processes holds on the images."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
    environment |= {"EVENTSVC_TEST_SERVERS": "containers", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    command = [sys.executable, "-m", "pytest", *CHOSEN, "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        command, cwd=stacks.ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    stacks.say(f"test-containers: {done.stdout.strip().splitlines()[-1]}")
