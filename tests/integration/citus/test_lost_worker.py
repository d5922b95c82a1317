"""A worker is killed while clients write, and comes back."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import urllib3

from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.errors import WorkerUnavailable
from eventsvc.log.connection import connect
from eventsvc.log.progress.horizon import Horizon
from eventsvc.settings import Settings
from tests.integration.citus.load import COMPONENTS, Load, check_stored_once, post_with_key, serving


def search(url: str, query: str, **parameters: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", f"{url}/event", fields={"q": query, **parameters}, timeout=60)


def search_index(url: str, components: set[str]) -> Any:
    """Search the index alone, which has events of every worker."""
    answer = search(url, f"component eq '{min(components)}'", consistency="eventual")
    assert answer.status == 200
    return answer.json()


def test_the_loss_of_a_worker_stops_only_its_own_events_and_loses_none(
    *, cluster: Any, settings: Settings, stores: Stores, log: Any, run_indexer: Any, waiting: Any
) -> None:
    server = cluster.local_server(0)
    lost = {name for name in COMPONENTS if cluster.place(name) == 0}
    others = set(COMPONENTS) - lost
    assert lost
    assert others
    with (
        serving(settings) as url,
        run_indexer(),
        Load(url) as load,
    ):
        waiting(lambda: load.has_stored(set(COMPONENTS), 10) and load.has_stored({"bulk"}, 40))
        waiting(lambda: search_index(url, lost))
        first = {name: post_with_key(url, name, f"with a key: {name}") for name in COMPONENTS}
        server.kill()
        try:
            before = {name: load.count(name, 201) for name in others}
            waiting(lambda: all(load.count(name, 201) > before[name] + 10 for name in others))
            waiting(lambda: all(load.count(name, 503) > 3 for name in {*lost, "bulk"}))
            check_what_is_missing(url, lost, others)
            for name in COMPONENTS:
                again = post_with_key(url, name, f"with a key: {name}")
                if name in others:
                    assert (again.status, again.json()) == (201, first[name].json())
                else:
                    assert (again.status, again.json()["type"]) == (503, "/problems#worker-unavailable")
            with closing(connect(cluster.dsn)) as connection:
                horizon = Horizon(connection)
                with pytest.raises(WorkerUnavailable):
                    waiting(lambda: horizon.poll() and None)
        finally:
            server.start()
        before = {name: load.count(name, 201) for name in {*COMPONENTS, "bulk"}}
        waiting(lambda: all(load.count(name, 201) > count + 10 for name, count in before.items()))
    with run_indexer():
        log.wait_visible()
    check_stored_once(log, load)
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def check_what_is_missing(url: str, lost: set[str], others: set[str]) -> None:
    """An answer that needs the lost worker is a problem that says so; other answers come."""
    for query in ("environment eq 'load'", f"component eq '{min(lost)}'"):
        for answer in (search(url, query), search(url, query, count="true")):
            assert (answer.status, answer.json()["type"]) == (503, "/problems#worker-unavailable")
    assert search(url, f"component eq '{min(others)}'").status == 200
    assert search_index(url, lost)
