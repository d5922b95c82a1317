"""A third worker is added while clients write: a third of the shards moves, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eventsvc.admin.verify import list_months, verify
from tests.integration.citus.load import COMPONENTS, Load, check_stored_once, serving

SHARDS = 32
EVENTS = 5_000


def place_events(log: Any) -> dict[int, tuple[int, int]]:
    """Give the port of the worker and the number of the events of each shard."""
    counts = Counter(
        dict(
            log.fetch(
                "SELECT get_shard_id_for_distribution_column('event', component), sum(count)::int"
                " FROM (SELECT component, count(*) FROM event WHERE environment = 'moved' GROUP BY 1 OFFSET 0) AS found"
                " GROUP BY 1"
            )
        )
    )
    places = log.fetch("SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'event'::regclass")
    return {shard: (port, counts[shard]) for shard, port in places}


def test_a_third_worker_gets_a_third_of_the_shards_while_clients_write(
    *, cluster: Any, citus_spare_url: str, log: Any, stores: Any, settings: Any, run_indexer: Any, waiting: Any
) -> None:
    if not citus_spare_url:
        pytest.skip("not run: EVENTSVC_TEST_CITUS_SPARE_URL names no server that can become a worker")
    log.fetch(
        "INSERT INTO event (id, email, environment, component, message, data)"
        " SELECT gen_random_uuid(), 'a@b.c', 'moved', md5(i::text), 'moved ' || i, '{}'"
        " FROM generate_series(1, %s) AS i",
        EVENTS,
    )
    before = place_events(log)
    with serving(settings) as url, run_indexer(), Load(url) as load:
        waiting(lambda: load.has_stored({*COMPONENTS, "bulk"}, 10))
        cluster.add_worker(citus_spare_url)
        log.fetch("SELECT citus_rebalance_start()")
        waiting(
            lambda: log.fetch("SELECT bool_and(state = 'finished') FROM pg_dist_background_job") == [(True,)], 600.0
        )
        stored = {name: load.count(name, 201) for name in {*COMPONENTS, "bulk"}}
        waiting(lambda: all(load.count(name, 201) > count + 10 for name, count in stored.items()))
    with run_indexer():
        log.wait_visible()
    after = place_events(log)
    moved = {shard for shard in before if before[shard][0] != after[shard][0]}
    assert {after[shard][0] for shard in moved} == {cluster.workers[-1][1]}
    assert SHARDS // 3 <= len(moved) <= SHARDS // 3 + 1
    share = sum(before[shard][1] for shard in moved) / EVENTS
    assert abs(share - len(moved) / SHARDS) < 0.1
    assert sum(count for _, count in after.values()) == EVENTS
    check_stored_once(log, load)
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))
