"""Break things at random moments, and see that nothing is lost, nothing is doubled, and all comes back: ``make chaos``.

Eight writers, four readers and one eraser work all the time against real processes. Each round breaks one thing, waits
until the index is what the log says again. Exit code 1 at the first thing that is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from eventsvc.admin.compare import Range
from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.errors import EventsvcError
from eventsvc.log.connection import connect, translate_errors
from eventsvc.log.progress import watermark
from tests.acceptance.chaos_erasing import Check, Eraser
from tests.acceptance.chaos_traffic import Monitor, Traffic, Wrong, say, wait_for
from tests.acceptance.chaos_world import World, children, strike
from tests.report import replace_block

PAUSE = 10.0
JOB_EVERY = 10  # rounds: the first of so many has a large erasure under way when something breaks


class Faults:
    """What can be broken; each method breaks one thing, and gives the words for the report."""

    def __init__(self, world: World, chance: random.Random, pause: float) -> None:
        self.world, self.chance, self.pause_seconds = world, chance, pause

    def _indexer(self, name: str) -> list[int]:
        return [self.world.processes[name].pid]

    def _worker(self) -> list[int]:
        return [self.chance.choice(wait_for(lambda: children(self.world.processes["serve"].pid), "no API worker"))]

    def _tree(self, server: Any) -> list[int]:
        return [server.pid, *children(server.pid)]

    def kill_leader(self) -> str:
        strike(self._indexer(self.world.leader()), signal.SIGKILL)
        return "kill -9 the leading indexer"

    def kill_stand_by(self) -> str:
        strike(self._indexer(self.world.stand_by()), signal.SIGKILL)
        return "kill -9 the stand-by indexer"

    def kill_worker(self) -> str:
        strike(self._worker(), signal.SIGKILL)
        return "kill -9 an API worker"

    def kill_postgres(self) -> str:
        strike([self.world.postgres.pid], signal.SIGKILL)  # type: ignore[attr-defined]
        return "kill -9 PostgreSQL"

    def kill_elasticsearch(self) -> str:
        strike(self._tree(self.world.elasticsearch)[::-1], signal.SIGKILL)
        return "kill -9 Elasticsearch"

    def fill_bulk_queue(self) -> str:
        """Send more at once than Elasticsearch takes: it answers 429 to us and to the indexer."""
        line = json.dumps({"index": {"_index": f"{self.world.settings.index_prefix}-flood"}}) + "\n"
        body = (line + json.dumps({"text": "flood " * 500}) + "\n") * 1_000
        answers: Counter[int] = Counter()
        until = time.monotonic() + 4

        def flood() -> None:
            with urllib3.PoolManager(retries=False) as http:
                while time.monotonic() < until:
                    with suppress(urllib3.exceptions.HTTPError):
                        url = f"{self.world.elasticsearch.url}/_bulk?filter_path=errors"
                        headers = {"Content-Type": "application/x-ndjson"}
                        answers[http.request("POST", url, body=body, headers=headers, timeout=30).status] += 1

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with suppress(urllib3.exceptions.HTTPError):
            urllib3.request("DELETE", f"{self.world.elasticsearch.url}/{self.world.settings.index_prefix}-flood")
        return f"fill Elasticsearch's bulk queue ({answers[429]} requests answered 429)"

    def _pause(self, what: str, pids: list[int]) -> str:
        strike(pids, signal.SIGSTOP)
        time.sleep(self.pause_seconds)
        strike(pids, signal.SIGCONT)
        return f"pause {what} for {self.pause_seconds:.0f} s"

    def pause_leader(self) -> str:
        return self._pause("the leading indexer", self._indexer(self.world.leader()))

    def pause_worker(self) -> str:
        return self._pause("an API worker", self._worker())

    def pause_postgres(self) -> str:
        return self._pause("PostgreSQL", self._tree(self.world.postgres))

    def pause_elasticsearch(self) -> str:
        return self._pause("Elasticsearch", self._tree(self.world.elasticsearch))


@dataclass(frozen=True)
class Round:
    """What one round was, and what was seen."""

    number: int
    fault: str
    events: int
    refused: int
    searches: int
    seconds: float


class Chaos:
    """Round after round."""

    def __init__(self, world: World, traffic: Traffic, eraser: Eraser, chance: random.Random, job_every: int) -> None:
        self.world, self.traffic, self.eraser, self.chance = world, traffic, eraser, chance
        self.job_every = job_every
        self.verified_to = 0
        self.checked: set[str] = set()

    def round(self, number: int, fault: Callable[[], str]) -> Round:
        refused, searches = self.traffic.refused, self.traffic.searches
        self.traffic.gate.set()
        if self.job_every and (number - 1) % self.job_every == 0:
            self.eraser.begin_job()
        self._supervise(self.chance.uniform(0.5, 2.5))
        words = fault()
        broken = time.monotonic()
        self._supervise(self.chance.uniform(1.0, 3.0))
        self._converge()
        seconds = time.monotonic() - broken
        events = self.check()
        return Round(number, words, events, self.traffic.refused - refused, self.traffic.searches - searches, seconds)

    def _supervise(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.world.revive()
            time.sleep(0.1)

    def _converge(self) -> None:
        """Wait until everything that was acknowledged is visible in the index, and what is erased has left it."""
        self.traffic.gate.clear()

        def visible() -> bool:
            self.world.revive()
            if +self.traffic.writing:
                return False
            with suppress(EventsvcError), translate_errors():
                connection = connect(self.world.dsn)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT coalesce(max(seq), 0) FROM event")
                    ((last,),) = cursor.fetchall()
                caught_up = watermark.read(connection).seq >= last and self.eraser.finished(connection)
                connection.close()
                return bool(caught_up)
            return False

        wait_for(visible, "the index did not catch up")

    def check(self, *, everything: bool = False, purged: bool = False) -> int:
        """Compare index and log, and the log with what was acknowledged; give the number of new events."""
        if everything:
            self.verified_to, self.checked = 0, set()
        with open_stores(self.world.settings) as stores:
            mark = watermark.read(stores.connection).seq
            for report in verify(stores, list_months(stores.connection), wanted=Range(max(0, self.verified_to - 100))):
                if not report.equal or report.refused:
                    raise Wrong(f"index and log differ: {report}")
            new = {m: i for m, i in self.traffic.alive().items() if m not in self.checked}
            answers = Check(stores, self.traffic, self.chance)
            answers.after_round(self.verified_to)
            if everything:
                answers.at_the_end(purged=purged)
            with stores.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT data->>'marker', array_agg(id::text) FROM event"
                    " WHERE seq > %s AND component = 'chaos' GROUP BY 1",
                    (0 if everything else self.verified_to,),
                )
                stored = dict(cursor.fetchall())
        for marker, event_id in new.items():
            ids = [one.strip("{}") for one in stored.get(marker, [])]
            if ids != [event_id]:
                raise Wrong(f"{marker} was acknowledged as {event_id}, and the log holds {ids}")
        twice = [marker for marker, ids in stored.items() if len(ids) > 1]
        if twice:
            raise Wrong(f"stored twice: {twice[:5]}")
        self.checked |= new.keys()
        self.verified_to = mark
        if self.traffic.wrong:
            raise Wrong("; ".join(self.traffic.wrong[:5]))
        return len(new)


def choose(options: argparse.Namespace, faults: Faults) -> list[tuple[str, Callable[[], str]]]:
    """Every kind of fault equally often, in random order."""
    kinds = [name for name in dir(faults) if not name.startswith("_") and callable(getattr(faults, name))]
    if faults.world.shared:
        kinds = [name for name in kinds if "elasticsearch" not in name and "bulk" not in name]
    kinds = options.faults or kinds
    chosen: list[str] = []
    while len(chosen) < options.rounds:
        chosen += faults.chance.sample(kinds, len(kinds))
    return [(name, getattr(faults, name)) for name in chosen[: options.rounds]]


def report(path: Path, rounds: list[Round], traffic: Traffic, monitor: Monitor, eraser: Eraser) -> None:
    """Put the figures between the marks of a page."""
    summary = (
        f"{len(rounds)} rounds on {time.strftime('%Y-%m-%d')}: {len(traffic.acknowledged):,} events acknowledged, none"
        f" lost, none twice; {traffic.searches:,} searches for an acknowledged event (half of them for the newest),"
        f" each answered with it exactly once, {traffic.by_log:,} of them by PostgreSQL alone; the watermark looked at"
        f" {monitor.looks:,} times, never falling; `verify` equal after every round. {eraser.words()}"
    )
    legend = (
        '"Refused" counts answers 503 and broken connections; the writers repeat those with the same Idempotency-Key.'
        ' "Back after" runs from the fault (of a pause: from its end) until everything acknowledged is visible in the'
        " index; writers go on for 1 to 3 s of it."
    )
    head = (
        "| round | what was broken | events | refused | searches | back after |\n| --- | --- | --- | --- | --- | --- |"
    )
    rows = [
        f"| {r.number} | {r.fault} | {r.events:,} | {r.refused:,} | {r.searches:,} | {r.seconds:.1f} s |"
        for r in rounds
    ]
    lines = [summary, "", legend, "", head, *rows]
    replace_block(path, "chaos", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds")
    parser.add_argument("--job-every", type=int, default=JOB_EVERY, help="rounds; 0 for no large erasure")
    parser.add_argument("--faults", nargs="+", help="only these kinds")
    parser.add_argument("--elasticsearch-url", default="", help="one that is shared, and left in peace")
    parser.add_argument("--report", type=Path, help="the page whose table is to be written")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    say(f"seed {options.seed}")
    rounds: list[Round] = []
    with ExitStack() as stack:
        world = World(stack, options.elasticsearch_url)
        traffic = Traffic(world.port)
        stack.callback(traffic.over.set)
        monitor = Monitor(world.dsn, traffic)
        eraser = Eraser(traffic, random.Random(options.seed))
        chaos = Chaos(world, traffic, eraser, chance, options.job_every)
        try:
            wait_for(lambda: traffic.ask("GET", "/readyz")[0] == 200, "the API is not ready")
            monitor.start()
            traffic.start()
            eraser.start()
            for number, (_, fault) in enumerate(choose(options, Faults(world, chance, options.pause)), start=1):
                rounds.append(chaos.round(number, fault))
                say(str(rounds[-1]))
                if options.report:
                    report(options.report, rounds, traffic, monitor, eraser)
            chaos.check(everything=True, purged=not world.shared)
        except Wrong as exc:
            for log in world.folder.glob("*.log"):
                last = log.read_text(errors="replace").splitlines()[-40:]
                say("\n".join([f"--- {log.name}", *last]))
            sys.exit(f"WRONG: {exc}")
        finally:
            traffic.over.set()
    say(eraser.words())
    say(f"{len(rounds)} rounds, {len(traffic.acknowledged)} events, {traffic.searches} searches, nothing wrong")


if __name__ == "__main__":
    main()
