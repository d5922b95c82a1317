"""A worker hangs while clients write: it accepts connections, but answers nothing. Then it goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from eventsvc.admin.verify import list_months, verify
from tests.integration.citus.load import COMPONENTS, Load, check_stored_once, following, post_with_key, serving

NO_KEY = set(COMPONENTS[::2])  # a request with a key may get 409: its session on the coordinator waits for the worker


@pytest.mark.timeout(600)
def test_a_worker_that_hangs_stops_only_its_own_events_and_loses_none(
    *, cluster: Any, settings: Any, stores: Any, log: Any, run_indexer: Any, waiting: Any, tmp_path: Path
) -> None:
    server = cluster.local_server(0)
    hung = {name for name in COMPONENTS if cluster.place(name) == 0}
    others = set(COMPONENTS) - hung
    assert hung & NO_KEY
    assert others & NO_KEY
    with serving(settings) as url, run_indexer(), following(url, tmp_path / "followed") as followed:
        with Load(url) as load:
            waiting(lambda: load.has_stored(set(COMPONENTS), 10) and load.has_stored({"bulk"}, 40) and followed())
            first = load.messages()
            answers = {name: post_with_key(url, name, f"with a key: {name}") for name in others}
            server.freeze()
            try:
                waiting(lambda: all(load.count(name, 503) > 3 for name in hung & NO_KEY))
                before = {name: load.count(name, 201) for name in others & NO_KEY}
                waiting(lambda: all(load.count(name, 201) > count + 100 for name, count in before.items()))
                check_what_is_missing(url, hung, others)
                for name, answer in answers.items():
                    again = post_with_key(url, name, f"with a key: {name}")
                    assert (again.status, again.json()) == (201, answer.json())
                waiting(lambda: load.count("bulk", 503) > 0, 180)  # the first bulk request waits for its time limit
            finally:
                server.thaw()
            before = {name: load.count(name, 201) for name in {*COMPONENTS, "bulk"}}
            waiting(lambda: all(load.count(name, 201) > count + 10 for name, count in before.items()))
        log.wait_visible()
        stored = check_stored_once(log, load)
        waiting(lambda: stored - first <= set(followed()))
        assert len(followed()) == len(set(followed()))
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def check_what_is_missing(url: str, hung: set[str], others: set[str]) -> None:
    """An answer that needs the worker ends with a problem; other answers come."""

    def ask(query: str) -> urllib3.BaseHTTPResponse:
        return urllib3.request("GET", f"{url}/event", fields={"q": query}, timeout=60)

    queries = ["environment eq 'load'", f"component eq '{min(hung)}'"]
    types = set()
    for _ in range(3):  # the first ones use old connections to the worker, until the time limit
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(ask, queries * 3))
        assert {answer.status for answer in answers} == {503}
        types = {answer.json()["type"] for answer in answers}
        assert types <= {"/problems#log-timeout", "/problems#worker-unavailable", "/problems#searches-queued"}
    assert "/problems#worker-unavailable" in types
    answer = ask(f"component eq '{min(others)}'")
    assert answer.status == 200, answer.data
