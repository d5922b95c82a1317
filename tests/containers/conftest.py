"""One stack for the whole run: built, brought up, and always taken down with its volumes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from tests.containers import stack as stacks

# Minutes of work, and a Docker engine: `make test-containers` asks for them, `make test` does not.
collect_ignore_glob = [] if os.environ.get("TEST_CONTAINERS") else ["test_*.py"]


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Our image, freshly built."""
    if reason := stacks.missing_engine():
        stacks.say(f"test-containers: {reason}; nothing is tested in containers here")
        pytest.exit(reason, returncode=0)
    lacking = [
        name for name in stacks.all_images() if any(e in name for e in stacks.EXTRA) and not stacks.can_have(name)
    ]
    if lacking:
        stacks.say(f"test-containers: not tested, their images cannot be had here: {', '.join(sorted(set(lacking)))}")
    tag = f"eventsvc:test-{secrets.token_hex(4)}"
    stacks.build(tag)
    yield tag
    stacks.run("docker", "rmi", "-f", tag, check=False)


@pytest.fixture(scope="session")
def shared_stack(image: str) -> Iterator[stacks.Stack]:
    stack = stacks.Stack(image)
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("down", "-v", "--remove-orphans", "--timeout", "20", check=False)


@pytest.fixture
def stack(shared_stack: stacks.Stack) -> stacks.Stack:
    """The stack, all of it well: every test leaves it as it found it."""
    shared_stack.wait_ready()
    return shared_stack
