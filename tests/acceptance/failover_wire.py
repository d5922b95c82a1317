"""A piece of network for failover.py: ``failover_wire.py LISTEN:TARGET …`` forwards TCP from each port to another one.

While this process is stopped (SIGSTOP), nothing arrives and nothing is refused, as when somebody pulls a plug.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


async def _serve(listen: int, target: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", listen)
    await server.serve_forever()


async def _main(pairs: list[str]) -> None:
    ports = [[int(port) for port in pair.split(":")] for pair in pairs]
    await asyncio.gather(*(_serve(listen, target) for listen, target in ports))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
