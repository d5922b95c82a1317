"""A process gives memory back that it has used for a while."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Every fourth text stays, so that the free pieces lie between others.
_PROGRAM = """
from eventsvc.serve.memory import Trimmer, configure_allocator, _resident

configure_allocator()
trimmer, before = Trimmer(), _resident()
texts = [str(number) * 20_000 for number in range(1_000, 3_000)]
trimmer.trim_if_grown()
kept = texts[::4]
del texts
held = _resident()
trimmer.trim_if_grown()
print(before, held, _resident(), sum(map(len, kept)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another allocator")
def test_what_was_freed_between_other_texts_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)

    before, held, after, kept = map(int, done.stdout.split())
    assert held - before > 100 * 2**20
    assert after - before < kept * 1.25
