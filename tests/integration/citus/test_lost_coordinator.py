"""The coordinator is killed while clients write, and comes back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.log.connection import connect
from tests.integration.citus.load import COMPONENTS, Load, check_stored_once, following, serving
from tests.integration.conftest import Log

TIMES = 3


@pytest.mark.timeout(900)
def test_the_loss_of_the_coordinator_stops_all_writers_and_loses_nothing(
    *, cluster: Any, settings: Any, run_indexer: Any, waiting: Any, tmp_path: Path
) -> None:
    server = cluster.local_server(None)
    everybody = {*COMPONENTS, "bulk"}

    def freeze_between_phases() -> bool:
        """Stop the coordinator; go on if it is not between the two phases of a COMMIT."""
        server.freeze()
        if cluster.count_prepared():
            return True
        server.thaw()
        return False

    with serving(settings) as url, run_indexer(), following(url, tmp_path / "followed") as followed:
        with Load(url) as load:
            waiting(load.all_served(everybody))
            waiting(followed)
            first = load.messages()
            for _ in range(TIMES):
                waiting(freeze_between_phases)
                server.kill()
                assert cluster.count_prepared()
                try:
                    refused = {name: load.count(name, 503) for name in everybody}
                    waiting(lambda refused=refused: all(load.count(name, 503) > refused[name] for name in everybody))
                finally:
                    server.start()
                waiting(load.all_served(everybody))
        waiting(lambda: cluster.count_prepared() == 0)
        with closing(connect(cluster.dsn)) as connection:
            log = Log(connection)
            log.wait_visible()
            stored = check_stored_once(log, load)
        waiting(lambda: stored - first <= set(followed()))
        assert len(followed()) == len(set(followed()))
    with open_stores(settings) as stores:
        assert all(report.equal for report in verify(stores, list_months(stores.connection)))
