"""A short run of what ``make chaos`` does a hundred times; see chaos.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = ("kill_leader", "pause_leader", "kill_postgres")


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_whatever_is_killed(elasticsearch_url: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.acceptance.chaos"),
            *("--rounds", str(len(FAULTS)), "--pause", "4", "--elasticsearch-url", elasticsearch_url),
            *("--job-every", "0", "--faults", *FAULTS),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(FAULTS)} rounds" in done.stdout.splitlines()[-1]
