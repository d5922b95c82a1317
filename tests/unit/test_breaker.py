"""The circuit breaker."""

from __future__ import annotations

import asyncio
import time

from eventsvc.breaker import Breaker


def run(scenario: object) -> None:
    asyncio.run(scenario)  # type: ignore[arg-type]


async def never() -> None:
    raise OSError("still away")


def test_a_quick_failure_leaves_it_closed() -> None:
    async def scenario() -> None:
        breaker = Breaker(never, name="it")
        breaker.failed(time.monotonic())
        assert breaker.closed
        await breaker.close()

    run(scenario())


def test_a_slow_failure_opens_it_until_a_probe_succeeds() -> None:
    async def scenario() -> None:
        answers = iter([OSError("away"), OSError("away"), None])
        back = asyncio.Event()

        async def probe() -> None:
            if (failure := next(answers)) is not None:
                raise failure
            back.set()

        breaker = Breaker(probe, name="it", shortest=0.01, longest=0.02)
        breaker.failed(time.monotonic() - 1)
        assert not breaker.closed
        async with asyncio.timeout(10):
            await back.wait()
        assert breaker.closed
        await breaker.close()

    run(scenario())


def test_many_failures_start_one_probe() -> None:
    async def scenario() -> None:
        breaker = Breaker(never, name="it", shortest=100)
        before = len(asyncio.all_tasks())
        for _ in range(5):
            breaker.failed(time.monotonic() - 1)
        assert len(asyncio.all_tasks()) == before + 1
        await breaker.close()
        assert len(asyncio.all_tasks()) == before

    run(scenario())
