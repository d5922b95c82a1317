"""Three PostgreSQLs under Patroni (config/docker-compose.ha.yml): the primary goes away under load."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.containers import stack as stacks
from tests.containers.load import Load, check
from tests.containers.stack import Stack, disconnected, wait_for

Away = Callable[[Stack, str], AbstractContextManager[None]]
NODES = ("postgres", "postgres-2", "postgres-3")
PASS_ON = 120.0  # seconds until another one must be the primary: Patroni waits for 20


@pytest.fixture(scope="module")
def cluster(image: str) -> Iterator[Stack]:
    """The stack with three PostgreSQLs, one API and one indexer: the machine may be small."""
    mark = secrets.token_hex(4)
    images = {f"{target.upper()}_IMAGE": f"eventsvc-{target}:test-{mark}" for target in ("patroni", "etcd")}
    for target in ("patroni", "etcd"):
        stacks.build(images[f"{target.upper()}_IMAGE"], folder="config/patroni", target=target)
    stack = Stack(image, "config/docker-compose.ha.yml", **images)
    try:
        stack.up("--scale", "api=1", "--scale", "indexer=1", *stacks.NEEDED)
        stack.wait_ready()
        yield stack
    finally:
        stack.compose("down", "-v", "--remove-orphans", "--timeout", "0", check=False)
        stacks.run("docker", "rmi", "-f", *images.values(), check=False)


def _primaries(stack: Stack) -> list[str]:
    """The servers that take writes."""
    ask = ("psql", "-U", "eventsvc", "-XAtc", "SELECT pg_is_in_recovery()")
    return [node for node in NODES if stack.compose("exec", "-T", node, *ask, check=False).strip() == "f"]


@contextmanager
def _killed(stack: Stack, node: str) -> Iterator[None]:
    """SIGKILL for everything in the container, which stays away until it is started."""
    stack.compose("kill", "-s", "KILL", node)
    try:
        yield
    finally:
        stack.compose("start", node)


@contextmanager
def _cut_off(stack: Stack, node: str) -> Iterator[None]:
    """Neither etcd nor another server can be reached, while clients still reach the server."""
    with disconnected(stack, node, "database", f"{node}.database"):
        yield


@pytest.mark.parametrize("away", [_killed, _cut_off])
def test_the_primary_goes_away_under_load(cluster: Stack, away: Away) -> None:
    """Writes go on with another primary: no acknowledged event is lost, none is stored twice, the index is equal."""
    with Load(cluster.port, threads=4, keys=True, again=True, key=cluster.key) as load:
        acknowledged = load.outcome.acknowledged
        wait_for(lambda: len(acknowledged) > 50, 60, "load")
        (struck,) = _primaries(cluster)
        began = time.monotonic()
        with away(cluster, struck):
            wait_for(lambda: set(_primaries(cluster)) - {struck}, PASS_ON, "failover")
            wait_for(load.outcome.more(50), 60, "writes with the new primary")
            stacks.say(f"test-containers: {away.__name__}: writes again after {time.monotonic() - began:.1f} s")
    for node in NODES:
        (container,) = cluster.containers(node)
        cluster.wait_healthy(container)
    assert len(_primaries(cluster)) == 1
    cluster.wait_ready()
    # A request with a key that is still under way with a process that waits: 409.
    check(cluster, load, allowed={409, 503})
    assert "equal" in cluster.admin("verify")
