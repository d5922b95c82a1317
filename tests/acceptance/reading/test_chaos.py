"""Sixteen writers and sixteen readers while Elasticsearch is killed: no answer is wrong, ever.

A short run by default; `make chaos-reading` makes it ten minutes and five kills.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests

from eventsvc.dev.find import find_elasticsearch
from eventsvc.dev.server import wait_until_ready

_log = logging.getLogger(__name__)

WRITERS = READERS = 16
PAGE = 200


@pytest.fixture
def elasticsearch(server_folder: Path) -> Iterator[Any]:
    """One of our own, to be killed."""
    server = find_elasticsearch(server_folder / "victim", say=print, way="local", lasting=False)
    assert server is not None, "this test needs Java 21 and Maven: it kills an Elasticsearch of its own"
    server.start()
    wait_until_ready(server, timeout=240)
    try:
        yield server
    finally:
        server.stop()


def kill(server: Any) -> None:
    """Kill the server itself, not only what launched it."""
    family = list(descendants(server.pid))
    assert len(family) > 1
    for pid in reversed(family):
        os.kill(pid, signal.SIGKILL)
    server.stop()


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


class Writer:
    """Posts numbered events, one after the other.

    Attributes:
        acknowledged: how many have been answered with 201.
        begun: how many have been sent.
    """

    def __init__(self, url: str, number: int) -> None:
        self.email = f"w{number}@b.c"
        self.acknowledged = self.begun = 0
        self._url, self._session = url, requests.Session()

    def post(self) -> None:
        event = {"email": self.email, "environment": "chaos", "component": "c", "data": {"n": self.begun}}
        body = event | {"message": f"Event number {self.begun} of {self.email}"}
        self.begun += 1
        response = self._session.post(f"{self._url}/event", json=body, timeout=60)
        assert response.status_code == 201, response.text
        self.acknowledged += 1


class Reader:
    """Asks one of several questions, and checks the answer against what was acknowledged before."""

    def __init__(self, url: str, writers: list[Writer], seed: int) -> None:
        self._url, self._writers, self._numbers = url, writers, random.Random(seed)
        self._session = requests.Session()
        self.sources: Counter[str] = Counter()
        self.slowest = 0.0

    def wait_for_the_index(self, writer: Writer, seconds: float) -> None:
        """Wait until the index takes part in answers."""
        writer.post()
        deadline = time.monotonic() + seconds
        while True:
            response = self._get("/event", q=f"message ct '{writer.begun}'", limit=1)
            if response.headers["Eventsvc-Source"] == "index+tail" and response.headers["Eventsvc-Watermark"] != "0":
                return
            assert time.monotonic() < deadline, response.headers
            time.sleep(0.2)
            writer.post()  # another number, another question: no kept answer counts

    def ask(self) -> None:
        writer = self._numbers.choice(self._writers)
        questions = [self._newest, self._contained, self._contained, self._counted, self._tallied]
        self._numbers.choice(questions)(writer)

    def _get(self, path: str, **parameters: Any) -> requests.Response:
        began = time.monotonic()
        response = self._session.get(f"{self._url}{path}", params=parameters, timeout=60)
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert response.status_code == 200, response.text
        self.sources[response.headers["Eventsvc-Source"]] += 1
        return response

    def _newest(self, writer: Writer) -> None:
        self._recent(writer, f"email eq '{writer.email}'")

    def _recent(self, writer: Writer, query: str) -> None:
        """Compare which events there are, not their order: a clock that steps back changes that."""
        before = writer.acknowledged
        first = max(0, before // PAGE - 1) * PAGE  # rounded, so that kept answers are used too
        query = f"{query} AND data.n gte {first}"
        response = self._get("/event", q=query, limit=1000, fields="data,createdAt")
        found = [event["data"]["n"] for event in response.json()]
        newest = max(found, default=first - 1)
        assert before - 1 <= newest < writer.begun, (before, newest, writer.begun, response.headers)
        # Without a hole and without a double: each writer waits for its answer before it goes on.
        assert sorted(found) == list(range(first, newest + 1)), self._explain(first, newest, response, query)
        times = [event["createdAt"] for event in response.json()]
        assert times == sorted(times, reverse=True)

    def _explain(self, first: int, newest: int, response: requests.Response, query: str) -> str:
        """Say which events are missing or doubled, and whether they still are a moment later."""
        found = Counter(event["data"]["n"] for event in response.json())
        wrong = [n for n in range(first, newest + 1) if found[n] != 1]
        again = self._get("/event", q=query, limit=1000, fields="data,createdAt")
        later = {e["data"]["n"]: e["createdAt"] for e in again.json() if e["data"]["n"] in wrong}
        return f"{wrong}: {dict(response.headers)}; later: {later} {dict(again.headers)}"

    def _contained(self, writer: Writer) -> None:
        """Never answered from what was kept: "now" is another time each time."""
        self._recent(writer, f"message ct 'OF {writer.email}' AND createdAt gte 'now-1d'")

    def _counted(self, writer: Writer) -> None:
        before = writer.acknowledged
        response = self._get("/event", q=f"message ct '{writer.email}'", limit=1, count="true")
        assert before <= int(response.headers["X-Total-Count"]) <= writer.begun, response.headers

    def _tallied(self, _writer: Writer) -> None:
        before = {writer.email: writer.acknowledged for writer in self._writers}
        answer = self._get("/event/stats", q="environment eq 'chaos'", by="email", top=100, interval="1m").json()
        found = Counter({one["value"]: one["count"] for one in answer["top"]})
        assert all(before[one.email] <= found[one.email] <= one.begun for one in self._writers)
        assert answer["count"] == found.total() == sum(bucket["count"] for bucket in answer["buckets"])


class Crowd:
    """Threads that repeat something until the block ends, or until one fails, which fails the block."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def add(self, work: Callable[[], None], pause: float) -> None:
        def repeat() -> None:
            try:
                while not self.stop.wait(pause):
                    work()
            except BaseException as exc:  # noqa: BLE001  (it is raised where the test waits)
                self.failures.append(exc)
                self.stop.set()

        self._threads.append(threading.Thread(target=repeat))
        self._threads[-1].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(90)
        if self.failures:
            raise self.failures[0]


def kill_repeatedly(elasticsearch: Any, kills: int, seconds: float, crowd: Crowd, readers: list[Reader]) -> None:
    """Kill it in the middle of each of so many stretches of time; returns early when somebody fails."""

    def joined() -> int:
        return sum(reader.sources["index+tail"] for reader in readers)

    for _ in range(kills):
        if crowd.stop.wait(seconds / 2):
            return
        kill(elasticsearch)
        crowd.stop.wait(seconds / 6)
        elasticsearch.start()
        # Only one that takes part in answers again is worth killing.
        before = joined()
        deadline = time.monotonic() + 180
        while joined() == before and not crowd.stop.wait(0.1):
            assert time.monotonic() < deadline, "Elasticsearch takes no part in answers any more"
        crowd.stop.wait(seconds / 6)


@pytest.mark.timeout(900)
def test_no_answer_is_wrong_while_elasticsearch_is_killed(
    elasticsearch: Any, database: str, start_service: Any
) -> None:
    service = start_service(database, elasticsearch.url, "chaos")
    service.start("serve")
    service.start("index")
    kills, seconds = (5, 120.0) if service.full else (1, 15.0)
    pause = 0.05 if service.full else 0.5  # in the short run, other tests want the processor as well
    writers = [Writer(service.url, number) for number in range(WRITERS)]
    readers = [Reader(service.url, writers, number) for number in range(READERS)]
    readers[0].wait_for_the_index(writers[0], seconds=120)
    try:
        with Crowd() as crowd:
            for writer in writers:
                crowd.add(writer.post, pause)
            for reader in readers:
                crowd.add(reader.ask, 2 * pause)  # an Elasticsearch that starts needs a core
            kill_repeatedly(elasticsearch, kills, seconds, crowd, readers)
    except Exception as exc:
        # Whether log and index differ for good: both are gone when this is read.
        exc.add_note(str(service.admin("verify")))
        raise
    sources = sum((reader.sources for reader in readers), Counter())
    slowest = max(reader.slowest for reader in readers)
    events = sum(writer.acknowledged for writer in writers)
    _log.info("%d events; answers: %s; the slowest after %.1f s", events, dict(sources), slowest)
    assert sources["sql"] > 0
    assert sources["index+tail"] > 0
    # Recovery is by itself, and whole.
    readers[0].wait_for_the_index(writers[0], seconds=120)
    verified = service.admin("verify")
    assert verified.returncode == 0, verified
