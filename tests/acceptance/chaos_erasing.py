"""The erasures of chaos.py: what goes while things break stays gone, and nothing else goes."""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import orjson

from eventsvc.admin.stores import Stores
from eventsvc.admin.transfer import export_events
from eventsvc.api.stream import make_token
from eventsvc.erasure.erase import AT_ONCE
from eventsvc.erasure.purge import inspect, purge
from eventsvc.log.connection import Connection
from eventsvc.log.progress import erased, erasures
from eventsvc.query.parse import parse
from tests.acceptance.chaos_traffic import Traffic, Wrong, wait_for

SMALL = (1, 30)  # events of an erasure in one transaction
LARGE = AT_ONCE + 500  # events of an erasure by batches
EVERY = (0.3, 1.5)  # seconds between two small erasures
WRITTEN = "component eq 'chaos'"  # by the writers; the rest is there to be erased by batches


class Eraser:
    """Erases small sets of events all the time, and a large one when told to."""

    def __init__(self, traffic: Traffic, chance: random.Random) -> None:
        self.traffic, self.chance = traffic, chance
        self.erasures = self.jobs = self.by_job = 0
        self.busy = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.traffic.over.wait(self.chance.uniform(*EVERY)):
            self.busy.set()
            try:
                alive = self.traffic.alive() if self.traffic.gate.is_set() else {}
                if len(alive) > SMALL[1]:
                    self._erase(self._choose(alive))
            except Exception as exc:
                self.traffic.wrong.append(f"the eraser broke: {exc!r}")
                raise
            finally:
                self.busy.clear()

    def _choose(self, alive: dict[str, str]) -> dict[str, str]:
        """Some of the newest, perhaps not in the index yet, and some of any age."""
        count = self.chance.randint(*SMALL)
        names = list(alive)
        chosen = {*names[-count // 2 :], *self.chance.sample(names, count)}
        return {marker: alive[marker] for marker in chosen}

    def _erase(self, chosen: dict[str, str]) -> None:
        self.traffic.condemn(chosen)
        q = " OR ".join(f"message ct '{marker}'" for marker in chosen)
        done, attempts = self._ask(q)
        if done and (done["state"] != "done" or (attempts == 1 and done["erased"] != len(chosen))):
            self.traffic.wrong.append(f"{len(chosen)} events were to go, and POST /erasure answers {done}")
        if done:
            self.erasures += 1
            self.traffic.bury(chosen)

    def _ask(self, q: str) -> tuple[Any, int]:
        """Try until it is answered: an erasure whose answer was lost is done, and can be asked for again."""
        attempts = 0
        while not self.traffic.over.is_set():
            attempts += 1
            status, _, answer = self.traffic.ask("POST", "/erasure", {"q": q, "reason": "chaos"})
            if status in (200, 202):
                return answer, attempts
            if status and status not in (429, 503):
                self.traffic.wrong.append(f"POST /erasure answered {status}: {answer}")
                break
            self.traffic.over.wait(0.1)
        return None, attempts

    def begin_job(self) -> None:
        """Store more events than one transaction erases, and begin to erase them."""
        who = {"email": "chaos@chefhero.com", "environment": "test", "component": f"doomed{self.jobs}"}
        events = [who | {"message": f"doomed {number}"} for number in range(LARGE)]
        key = f"{self.traffic.run}-doomed{self.jobs}"
        wait_for(lambda: self.traffic.ask("POST", "/event", events, key)[0] == 201, "a bulk request was not stored")
        answer, _ = self._ask(f"component eq '{who['component']}'")
        if answer["state"] != "running" and answer["count"]:
            self.traffic.wrong.append(f"{LARGE} events were to go by batches, and POST /erasure answers {answer}")
        self.jobs += 1
        self.by_job += LARGE

    def finished(self, connection: Connection) -> bool:
        """Tell whether nothing is being erased, and the index knows of all that is."""
        idle = not self.busy.is_set() and not erasures.list_running(connection)
        return idle and not erased.count_erased(connection)

    def words(self) -> str:
        """Say what was erased."""
        return (
            f"{len(self.traffic.gone):,} of the events were erased by {self.erasures:,} erasures of one transaction,"
            f" {self.by_job:,} others by {self.jobs} by batches; of {self.traffic.questions:,} questions about erased"
            " events none was answered with one, and nothing else had gone."
        )


class Check:
    """Looks whether the answers hold what they must hold, in a quiet moment."""

    def __init__(self, stores: Stores, traffic: Traffic, chance: random.Random) -> None:
        self.stores, self.traffic, self.chance = stores, traffic, chance

    def after_round(self, since: int) -> None:
        """Compare every kind of answer with what was acknowledged and not erased; the stream since a seq."""
        sample = self.chance.sample(sorted(self.traffic.gone), min(5, len(self.traffic.gone)))
        for marker in sample:
            self.traffic.ask_about_gone(marker, self.traffic.gone[marker])
        alive = len(self.traffic.alive())
        q = urllib.parse.urlencode({"q": WRITTEN})
        for target in (f"/event/stats?{q}", "/event/stats"):
            _, found = self._get(target)
            self._compare(target, found["count"], alive)
        stored = self._stored(since)
        self._compare("the stream", list(self._stream(since, len(stored))), stored)
        left = inspect(self.stores.connection, self.stores.elasticsearch)
        self._compare("verify --erased", (left.running, left.pending, left.events, left.documents), (0, 0, 0, 0))

    def at_the_end(self, *, purged: bool) -> None:
        """Compare the whole log, an export and all pages; purge, and see that nothing is left."""
        alive = sorted(self.traffic.alive().values())
        self._compare("the log", sorted(self._stored(0)), alive)
        exported = io.BytesIO()
        export_events(self.stores.connection, parse(WRITTEN, now=0), exported, lambda _: None)
        ids = [orjson.loads(line)["id"] for line in exported.getvalue().splitlines()]
        self._compare("the export", sorted(ids), alive)
        self._compare("the pages", sorted(self._pages()), alive)
        if purged:
            for _ in purge(self.stores.connection, self.stores.elasticsearch):
                pass
            left = inspect(self.stores.connection, self.stores.elasticsearch)
            self._compare("verify --erased", left.nothing, expected=True)

    def _compare(self, what: str, seen: Any, expected: Any) -> None:
        if seen != expected:
            if isinstance(seen, list):
                more, fewer = set(seen) - set(expected), set(expected) - set(seen)
                seen, expected = f"{len(seen)}, too much: {list(more)[:3]}", f"{len(expected)}, not: {list(fewer)[:3]}"
            raise Wrong(f"{what}: {seen} instead of {expected}")

    def _get(self, target: str) -> tuple[dict[str, str], Any]:
        def ask() -> Any:
            status, headers, found = self.traffic.ask("GET", target)
            return (headers, found) if status == 200 else None

        answer: tuple[dict[str, str], Any] = wait_for(ask, f"{target} was not answered")
        return answer

    def _stored(self, since: int) -> list[str]:
        with self.stores.connection.cursor() as cursor:
            cursor.execute("SELECT id::text FROM event WHERE seq > %s AND component = 'chaos' ORDER BY seq", (since,))
            return [name for (name,) in cursor]

    def _stream(self, since: int, count: int) -> Iterator[str]:
        """The ids that a client gets which comes back after it has seen everything up to a seq."""
        connection = http.client.HTTPConnection("127.0.0.1", self.traffic.port, timeout=60)
        try:
            target = "/event/stream?" + urllib.parse.urlencode({"q": WRITTEN})
            connection.request("GET", target, headers={"Last-Event-ID": make_token(since).decode()})
            answer = connection.getresponse()
            while count:
                line = answer.readline()
                if not line or line.startswith(b"event: error"):
                    return
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])["id"]
                    count -= 1
        finally:
            connection.close()

    def _pages(self) -> Iterator[str]:
        target = "/event?" + urllib.parse.urlencode({"q": WRITTEN, "limit": "1000"})
        while target:
            headers, found = self._get(target)
            yield from (event["id"] for event in found)
            link = re.search(r'<(?:https?://[^/]+)?([^>]+)>; rel="?next', headers.get("link", ""))
            target = link.group(1) if link else ""
