"""A body that finds no room on the disk is refused in a way that its sender can act on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import pytest
from falcon import testing

from eventsvc.api.media import Spool
from eventsvc.errors import WriteQueueFull

MIB = 2**20


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can grow beyond 512 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _receive(spool: Spool, size: int) -> int:
    request = testing.create_asgi_req(method="POST", body=b"x" * size)
    async with spool.receive(request, 4 * MIB) as file:
        return len(file.read())


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_refuses_a_body_and_its_room_is_given_back() -> None:
    spool = Spool(MIB)
    for _ in range(3):
        with pytest.raises(WriteQueueFull, match="disk"):
            asyncio.run(_receive(spool, MIB))
    assert asyncio.run(_receive(spool, MIB // 4)) == MIB // 4
