"""A worker is killed between the two phases of a COMMIT while clients write, and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.settings import Settings
from tests.integration.citus.load import COMPONENTS, Load, check_stored_once, following, serving

TIMES = 3


@pytest.mark.timeout(900)
def test_a_worker_lost_between_the_phases_of_a_commit_loses_and_doubles_nothing(
    *, cluster: Any, settings: Settings, log: Any, stores: Stores, run_indexer: Any, waiting: Any, tmp_path: Path
) -> None:
    """Its part of the transaction stays prepared, and Citus commits it within a minute of the worker's return."""
    coordinator, server = cluster.local_server(None), cluster.local_server(0)
    everybody = {*COMPONENTS, "bulk"}

    def kill_between_phases() -> bool:
        """Stop the coordinator; if the worker has prepared a transaction by then, kill the worker."""
        coordinator.freeze()
        try:
            if not cluster.count_prepared(0):
                return False
            server.kill()
            return True
        finally:
            coordinator.thaw()

    with serving(settings) as url, run_indexer(), following(url, tmp_path / "followed") as followed:
        with Load(url) as load:
            waiting(load.all_served(everybody))
            waiting(followed)
            first = load.messages()
            for _ in range(TIMES):
                waiting(kill_between_phases)
                try:
                    refused = load.count("bulk", 503)
                    waiting(lambda refused=refused: load.count("bulk", 503) > refused)
                finally:
                    server.start()
                waiting(load.all_served(everybody))
        log.wait_visible()
        stored = check_stored_once(log, load)
        waiting(lambda: stored - first <= set(followed()))
        assert len(followed()) == len(set(followed()))
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))
