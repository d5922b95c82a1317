"""What is written to a connection in one round of the event loop leaves together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from eventsvc.serve.transports import GatheringTransport

Act = Callable[[GatheringTransport], None]


def run(act: Act) -> tuple[list[int], bytes]:
    """Let ``act`` use a connection; give the size of each part that the event loop got, and what arrived."""

    async def connect() -> tuple[list[int], bytes]:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        sizes: list[int] = []

        class Watched:
            def write(self, data: bytes) -> None:
                sizes.append(len(data))
                transport.write(data)

            def writelines(self, parts: list[bytes]) -> None:
                sizes.extend(map(len, parts))
                transport.writelines(parts)

            def __getattr__(self, name: str) -> object:
                return getattr(transport, name)

        act(GatheringTransport(Watched(), loop))
        await asyncio.sleep(0)
        transport.close()
        reader, writer = await asyncio.open_connection(sock=theirs)
        arrived = await reader.read()
        writer.close()
        return sizes, arrived

    return uvloop.run(connect())


def test_a_head_and_its_body_leave_together() -> None:
    def act(transport: GatheringTransport) -> None:
        transport.write(b"head")
        transport.write(b"body")

    assert run(act) == ([8], b"headbody")


def test_a_large_answer_neither_waits_nor_is_copied() -> None:
    def act(transport: GatheringTransport) -> None:
        for _ in range(3):
            transport.write(b"x" * 40_000)

    assert run(act) == ([40_000, 40_000, 40_000], b"x" * 120_000)


@pytest.mark.parametrize("end", [GatheringTransport.close, GatheringTransport.write_eof])
def test_what_was_written_comes_before_the_end(end: Act) -> None:
    def act(transport: GatheringTransport) -> None:
        transport.write(b"last words")
        end(transport)

    assert run(act) == ([10], b"last words")


def test_nothing_is_written_to_a_connection_that_was_aborted() -> None:
    def act(transport: GatheringTransport) -> None:
        transport.write(b"too late")
        transport.abort()

    assert run(act) == ([], b"")
