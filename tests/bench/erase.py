"""Measure POSTs and searches before, while and after half of all events are erased: ``make bench-erase``.

`eventsvc dev` runs all servers on this machine. Requests come at a fixed rate, whatever the service does, and each
latency counts from the moment at which the request was due. Prints a table in Markdown for docs/erasing.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from eventsvc.log.connection import connect
from eventsvc.log.progress.erased import count_erased
from tests.bench import generate
from tests.bench.postgres import EVENT
from tests.bench.query import LIMIT, QUERIES, Measured, summarise, vary
from tests.bench.service import Service, running_dev, wait_for_the_index
from tests.report import replace_block

COUNT = 2_000_000
SECONDS = 20.0  # of load before and after
WARM_UP = 10.0  # seconds of load that are not measured
KEPT, GONE = "production", "staging"  # the environments of every other event
WRITERS, WRITES = 8, 50.0  # connections; requests a second
SEARCHERS, ASKED = 4, 10.0
QUERIES_ASKED = ("eq", "ct common", "ct rare", "eq AND ct AND gte", "data range")
POSTS, SEARCHES = "POST /event", "GET /event"

Latencies = dict[str, list[float]]  # ms, by what was measured
Send = Callable[[int], Awaitable[str]]  # takes the number of the request, and gives the name of what it measures


@dataclass
class Outcome:
    """What the run has shown.

    Attributes:
        latencies: for each phase.
        sources: for each phase, how many searches each store answered.
        posted: how many events were acknowledged.
        erasing: seconds from the request until the erasure was done.
        following: seconds from then until the index held no document of an erased event.
    """

    latencies: dict[str, Latencies] = field(default_factory=dict)
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    posted: int = 0
    erasing: float = 0.0
    following: float = 0.0


class Load:
    """Sends requests at a fixed rate, for as long as a phase lasts."""

    def __init__(self, session: aiohttp.ClientSession, service: Service, outcome: Outcome) -> None:
        self._session, self._url, self._outcome = session, f"http://127.0.0.1:{service.port}/event", outcome

    async def during(self, phase: str, work: Awaitable[None]) -> None:
        """Send requests until the work is done, and note their latencies under the name of the phase."""
        latencies = self._outcome.latencies.setdefault(phase, {})
        sources = self._outcome.sources.setdefault(phase, {})
        over = asyncio.Event()

        async def search(number: int) -> str:
            return await self._search(number, sources)

        async with asyncio.TaskGroup() as group:
            for count, rate, send in ((WRITERS, WRITES, self._post), (SEARCHERS, ASKED, search)):
                for which in range(count):
                    group.create_task(_keep_pace(send, latencies, first=which, step=count, rate=rate, over=over))
            await work
            over.set()

    async def _post(self, _number: int) -> str:
        async with self._session.post(self._url, json=EVENT) as answer:
            assert answer.status == 201, (answer.status, await answer.text())
            self._outcome.posted += 1
        return POSTS

    async def _search(self, number: int, sources: dict[str, int]) -> str:
        turn, which = divmod(number, len(QUERIES_ASKED))
        name = QUERIES_ASKED[which]
        parameters = {"q": vary(QUERIES[name], turn), "limit": str(LIMIT)}
        async with self._session.get(self._url, params=parameters) as answer:
            await answer.read()
            assert answer.status == 200, (answer.status, await answer.text())
            source = answer.headers["Eventsvc-Source"]
            sources[source] = sources.get(source, 0) + 1
        return name


async def _keep_pace(
    send: Send, latencies: Latencies, *, first: int, step: int, rate: float, over: asyncio.Event
) -> None:
    """Send the requests ``first``, ``first + step``, … of all that are due at this rate."""
    began, number = time.perf_counter(), first
    while not over.is_set():
        due = began + number / rate
        await asyncio.sleep(due - time.perf_counter())
        name = await send(number)
        latencies.setdefault(name, []).append((time.perf_counter() - due) * 1000)
        number += step


async def measure(service: Service, database_url: str, outcome: Outcome) -> None:
    """Run all phases."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
        load = Load(session, service, outcome)
        await load.during("warm-up", asyncio.sleep(WARM_UP))
        say("before …")
        await load.during("before", asyncio.sleep(SECONDS))
        say("erasing …")
        began = time.perf_counter()
        await load.during("while", _erase(session, f"http://127.0.0.1:{service.port}"))
        outcome.erasing = time.perf_counter() - began
        await load.during("index follows", _index_follows(database_url))
        outcome.following = time.perf_counter() - began - outcome.erasing
        say("after …")
        await load.during("after", asyncio.sleep(SECONDS))


async def _erase(session: aiohttp.ClientSession, base: str) -> None:
    wanted = {"q": f"environment eq '{GONE}'", "reason": "measured", "untilNow": True}
    async with session.post(f"{base}/erasure", json=wanted) as answer:
        state = await answer.json()
        assert answer.status in {200, 202}, state
    said = time.perf_counter()
    while state["state"] != "done":
        await asyncio.sleep(0.5)
        async with session.get(f"{base}/erasure/{state['id']}") as answer:
            state = await answer.json()
        if time.perf_counter() > said + 10:
            said = time.perf_counter()
            say(f"{state['erased']:,} of {state['count']:,} erased")
    assert state["erased"] == state["count"], state


async def _index_follows(database_url: str) -> None:
    with closing(connect(database_url)) as connection:
        while count_erased(connection):  # noqa: ASYNC110  (other processes do the work)
            await asyncio.sleep(0.1)


@contextmanager
def _checked(service: Service, variables: dict[str, str], count: int, outcome: Outcome) -> Iterator[None]:
    """Check that exactly the right events are left, and that the index equals the log."""
    yield
    wait_for_the_index(service)
    with closing(connect(variables["EVENTSVC_DATABASE_URL"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT environment, count(*) FROM event GROUP BY 1")
        left = dict(cursor.fetchall())
    expected = {KEPT: count - count // 2 + outcome.posted}
    assert left == expected, (left, expected)
    command = [sys.executable, "-m", "eventsvc", "admin", "verify"]
    subprocess.run(command, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure, check and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=COUNT, help="how many events, of which half are erased")
    parser.add_argument("--report", type=Path, help="document whose block between the bench-erase marks is replaced")
    options = parser.parse_args()
    outcome = Outcome()
    with running_dev() as (service, variables):
        _fill(variables["EVENTSVC_DATABASE_URL"], options.count)
        wait_for_the_index(service, seconds=300 + options.count / 500)
        say("the index holds every event")
        with _checked(service, variables, options.count, outcome):
            asyncio.run(measure(service, variables["EVENTSVC_DATABASE_URL"], outcome))
    text = render(options.count, outcome)
    print(text)
    if options.report:
        _write(options.report, options.count, text)


def _fill(database_url: str, count: int) -> None:
    began = time.perf_counter()
    with closing(connect(database_url)) as connection:
        generate.fill(connection, count, environments=(KEPT, GONE))
    say(f"{count:,} events copied in {time.perf_counter() - began:.0f} s")


def render(count: int, outcome: Outcome) -> str:
    """Make the table and the sentences below it."""
    phases = [_summarise(outcome.latencies[phase]) for phase in ("before", "while", "after")]
    lines = [
        "| request, p50 / p95 in ms | before | while half is erased | after | p95 while : before |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in (POSTS, SEARCHES, *QUERIES_ASKED):
        cells = [f"{phase[name][0]:.1f} / {phase[name][1]:.1f}" for phase in phases]
        label = f"`{QUERIES[name]}`" if name in QUERIES else "all searches" if name == SEARCHES else f"`{name}`"
        lines.append(f"| {label} | {' | '.join(cells)} | {phases[1][name][1] / phases[0][name][1]:.2f} |")
    gone, seconds = count // 2, outcome.erasing
    before, during = _shares(outcome.sources["before"]), _shares(outcome.sources["while"])
    lines += [
        "",
        f"{gone:,} of {count:,} events were erased in {seconds:.0f} s: {gone / seconds:,.0f} events a second. The",
        f"index followed {outcome.following:.1f} s later. Exactly {count - gone:,} of these events were left, and all",
        f"of the {outcome.posted:,} that were POSTed meanwhile. `admin verify` found the index equal to the log.",
        f"Searches were answered by {before} before, and by {during} while erasing.",
    ]
    return "\n".join(lines)


def _summarise(latencies: Latencies) -> dict[str, Measured]:
    searches = [one for name in QUERIES_ASKED for one in latencies[name]]
    return {name: summarise(sorted(each)) for name, each in (latencies | {SEARCHES: searches}).items()}


def _shares(sources: dict[str, int]) -> str:
    total = sum(sources.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in sorted(sources.items()))


def _write(document: Path, count: int, text: str) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    command = "make bench-erase" if count == COUNT else f"make bench-erase COUNT={count}"
    head = f"`{command}`, {today}, {os.cpu_count()} cores, one run:"
    replace_block(document, "bench-erase", f"{head}\n\n{text}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
