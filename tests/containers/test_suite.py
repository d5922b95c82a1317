"""The tests of the repository that need servers, once more, with both servers in containers."""

from __future__ import annotations

import os
import subprocess
import sys

import stack as stacks

# They bring servers of their own.
NOT_AGAIN = ("tests/integration/test_index_security.py", "tests/integration/test_servers.py", "tests/acceptance")


def test_suite_on_containers(image: str) -> None:
    """What holds on local processes holds on the images."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
    environment |= {"EVENTSVC_TEST_SERVERS": "containers", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    ignored = [f"--ignore={path}" for path in NOT_AGAIN]
    command = [sys.executable, "-m", "pytest", "tests/integration", *ignored]
    done = subprocess.run(
        command, cwd=stacks.ROOT, env=environment, capture_output=True, text=True, timeout=840, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    stacks.say(f"test-containers: {done.stdout.strip().splitlines()[-1]}")
