"""What operators do with a log over several servers: sizes, the doctor, retention, pruning, purging, transfer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from eventsvc.admin import doctor, prune, rebuild, transfer
from eventsvc.admin.verify import list_months, verify
from eventsvc.erasure import erase, retention
from eventsvc.erasure.purge import inspect, purge
from eventsvc.log import months
from eventsvc.log.progress import erasures, retention_rules
from eventsvc.log.progress.retention_rules import Rule
from eventsvc.query.parse import parse
from tests.integration.citus.load import COMPONENTS

SPRING = date(2020, 3, 1)


@pytest.fixture(autouse=True)
def spring(log: Any) -> Iterator[None]:
    """A log of 40 events in March 2020 and 20 events of today, on every worker."""
    months.ensure_months(log.connection, SPRING, SPRING)
    for at, count in (("'2020-03-10'", 40), ("now()", 20)):
        log.fetch(
            "INSERT INTO event (id, created_at, email, environment, component, message, data)"
            f" SELECT gen_random_uuid(), {at}, 'a@b.cd', 'spring', (%s::text[])[1 + i %% 12], 'm' || i, '{{}}'"
            " FROM generate_series(1, %s) AS i",
            list(COMPONENTS),
            count,
        )
    yield
    log.fetch("DELETE FROM hold")
    log.fetch("DELETE FROM retention_rule")
    log.fetch("DELETE FROM event WHERE environment = 'spring'")


def count(log: Any, where: str = "environment = 'spring'") -> int:
    return int(log.fetch(f"SELECT count(*) FROM event WHERE {where}")[0][0])


def test_sizes_are_those_of_all_workers(log: Any, stores: Any) -> None:
    sizes = {one.month: one for one in prune.list_sizes(stores)}
    on_workers = log.fetch(
        "SELECT sum(shard_size)::bigint FROM citus_shards WHERE table_name = 'event_2020_03'::regclass"
    )
    assert sizes[SPRING].events == 40
    assert (sizes[SPRING].table_bytes,) == on_workers[0]
    assert sizes[SPRING].table_bytes > 0


def test_the_doctor_lists_the_workers(cluster: Any, settings: Any) -> None:
    findings = {one.what: one for one in doctor.examine(settings)}
    assert findings["workers"].level == "ok"
    assert findings["workers"].found.startswith(f"{len(cluster.workers)} answer")
    assert findings["default partition"].level == "ok"


def test_rules_holds_and_pruning_remove_what_they_name_on_every_worker(log: Any, stores: Any) -> None:
    erasures.put_hold(log.connection, "keep", "message eq 'm7'", "r")
    retention_rules.put_rule(log.connection, Rule("environment eq 'spring' AND component in ('c1', 'c2')", 86_400))
    held = count(log, "created_at < '2021-01-01' AND message = 'm7'")
    due = count(log, "created_at < '2021-01-01' AND component IN ('c1', 'c2') AND message <> 'm7'")
    assert sum(retention.apply(log.connection, lambda _: None)) == due > 0
    plan = prune.plan(stores, datetime(2021, 1, 1, tzinfo=UTC))
    assert (plan.months, plan.partial) == ((), ((SPRING, 40 - due - held),))
    prune.prune(stores, plan, lambda _: None)
    assert (count(log), count(log, "created_at < '2021-01-01'")) == (20 + held, held)
    erasures.release_hold(log.connection, "keep")
    prune.prune(stores, prune.plan(stores, datetime(2021, 1, 1, tzinfo=UTC)), lambda _: None)
    assert count(log) == 20
    assert SPRING not in months.list_months(log.connection)


def test_what_is_exported_can_be_imported_again_once(log: Any) -> None:
    written = io.BytesIO()
    node = parse("environment eq 'spring'", now=0)
    transfer.export_events(log.connection, node, written, lambda _: None)
    assert written.getvalue().count(b"\n") == 60
    sent = written.getvalue()
    assert transfer.import_events(log.connection, io.BytesIO(sent), "file", lambda _: None).present == 60
    log.fetch("DELETE FROM event WHERE environment = 'spring'")
    report = transfer.import_events(log.connection, io.BytesIO(sent), "file", lambda _: None)
    assert (report.stored, report.present, report.refused) == (60, 0, 0)
    again = io.BytesIO()
    transfer.export_events(log.connection, node, again, lambda _: None)
    assert sorted(again.getvalue().splitlines()) == sorted(sent.splitlines())


def test_an_erasure_leaves_no_row_on_any_worker_and_the_index_can_be_rebuilt(
    log: Any, stores: Any, run_indexer: Any, waiting: Any
) -> None:
    with run_indexer():
        log.wait_visible()
        node = parse("environment eq 'spring' AND createdAt lt '2021-01-01'", now=0)
        erasure = erase.begin(log.connection, erase.ErasureRequest(node, "asked for", "test"))
        assert (erasure.counted, erasure.erased) == (40, 40)
        waiting(lambda: sum(inspect(log.connection, stores.elasticsearch).dead_rows.values()) >= 40)
        list(purge(log.connection, stores.elasticsearch))
        assert inspect(log.connection, stores.elasticsearch).nothing
        found = list_months(log.connection)
        replaced = [rebuild.rebuild(stores, month, rate=None, advance=lambda _: None) for month in found]
        rebuild.remove_old(stores, replaced, grace=0)
        log.wait_visible()
    assert all(report.equal for report in verify(stores, list_months(log.connection)))
