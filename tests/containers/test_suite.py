"""The tests of the repository that need servers, once more, with both servers in containers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import stack as stacks

# They bring servers of their own, or it does not matter to them how the servers run.
NOT_AGAIN = (
    "tests/integration/access",
    "tests/integration/http",
    "tests/integration/terminal",
    "tests/integration/test_fold.py",
    "tests/integration/test_frozen.py",
    "tests/integration/test_index_security.py",
    "tests/integration/test_nginx.py",
    "tests/integration/test_servers.py",
    "tests/integration/test_watch.py",
)
_SECONDS = 1500


@pytest.mark.timeout(_SECONDS + 60)
def test_suite_on_containers(image: str) -> None:
    """What holds on local processes holds on the images."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
    environment |= {"EVENTSVC_TEST_SERVERS": "containers", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    ignored = [f"--ignore={path}" for path in NOT_AGAIN]
    command = [sys.executable, "-m", "pytest", "tests/integration", *ignored]
    done = subprocess.run(
        command, cwd=stacks.ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    stacks.say(f"test-containers: {done.stdout.strip().splitlines()[-1]}")
