"""Work that many callers share."""

from __future__ import annotations

import asyncio
import time

from eventsvc.turns import Shared


class _Work:
    """Counts how often it was begun, and gives this number."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    async def __call__(self) -> int:
        self.begun.append(time.monotonic())
        number = len(self.begun)
        await asyncio.sleep(0.01)
        if number == 1:
            return number
        raise LookupError(number)


async def _ask_twice(shared: Shared[int]) -> list[int | BaseException]:
    """Ask 50 times at once, and 50 times more while the first work is under way."""
    first = [asyncio.create_task(shared()) for _ in range(50)]
    await asyncio.sleep(0.005)
    second = [asyncio.create_task(shared()) for _ in range(50)]
    return await asyncio.gather(*first, *second, return_exceptions=True)


def test_all_who_wait_share_the_work() -> None:
    """Who comes while the work is under way waits for the next work, whose error all of its callers get."""
    work = _Work()
    results = asyncio.run(_ask_twice(Shared(work, 0.0)))
    assert results[:50] == [1] * 50
    assert {str(result) for result in results[50:]} == {"2"}
    assert len(work.begun) == 2


def test_the_work_rests() -> None:
    work = _Work()
    asyncio.run(_ask_twice(Shared(work, 0.05)))
    assert work.begun[1] - work.begun[0] > 0.05


def test_a_caller_who_leaves_does_not_stop_the_work_of_others() -> None:
    async def leave() -> int:
        shared = Shared(_Work(), 0.0)
        leaving, staying = asyncio.create_task(shared()), asyncio.create_task(shared())
        await asyncio.sleep(0.005)
        leaving.cancel()
        return await staying

    assert asyncio.run(leave()) == 1
