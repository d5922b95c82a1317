"""prune, partitions, doctor, and what the indexer keeps in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.admin import prune as pruning
from eventsvc.admin.doctor import Finding, examine
from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.index import indexes
from eventsvc.indexer import upkeep
from eventsvc.log.months import ensure_months, partition_name
from eventsvc.log.months import list_months as list_partitions
from eventsvc.log.progress import index_months
from eventsvc.settings import Settings

CUTOFF = datetime(2020, 3, 15, tzinfo=UTC)


def no_progress(_: int) -> None:
    pass


@pytest.fixture
def spring(log: Any, run_indexer: Any) -> Any:
    """January to March 2020, indexed; the indexer is gone."""
    ensure_months(log.connection, date(2020, 1, 1), date(2020, 3, 1))
    with run_indexer():
        for day in ("2020-01-10", "2020-02-10", "2020-03-14 23:59:59.999+00", "2020-03-15 00:00:00+00"):
            log.insert(10, at=f"'{day}'")
        log.wait_visible()
    return log


def test_a_plan_says_what_would_go_and_changes_nothing(spring: Any, stores: Stores) -> None:
    plan = pruning.plan(stores, CUTOFF)
    assert plan.months == ((date(2020, 1, 1), 10), (date(2020, 2, 1), 10))
    assert plan.partial == ((date(2020, 3, 1), 10),)
    assert spring.fetch("SELECT count(*) FROM event") == [(40,)]


def test_pruning_takes_months_with_their_indexes_and_the_part_of_a_month(
    spring: Any, stores: Stores, run_indexer: Any, waiting: Any, elasticsearch: Elasticsearch
) -> None:
    spring.fetch("INSERT INTO index_failure VALUES (1, '2020-01-01', 'why'), (40, '2020-03-01', 'why')")
    ((epoch,),) = spring.fetch("SELECT epoch FROM erasure_epoch")
    with run_indexer():
        pruning.prune(stores, pruning.plan(stores, CUTOFF), no_progress)
        waiting(lambda: not spring.fetch("SELECT seq FROM erased"))
    assert spring.fetch("SELECT min(created_at), count(*) FROM event") == [(CUTOFF, 10)]
    (left,) = index_months.list_indexes(stores.connection).values()
    assert indexes.list_all(elasticsearch, stores.settings.index_prefix) == [left.name]
    assert elasticsearch.count(index=left.name)["count"] == 10
    assert spring.fetch("SELECT seq FROM index_failure") == [(40,)]
    assert spring.fetch("SELECT epoch > %s FROM erasure_epoch", epoch) == [(True,)]
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def test_a_month_without_a_partition_is_pruned_too(log: Any, stores: Stores, run_indexer: Any) -> None:
    with run_indexer():
        log.insert(3, at="'2012-05-05'")
        log.insert(2)
        log.wait_visible()
    pruning.prune(stores, pruning.plan(stores, CUTOFF), no_progress)
    assert log.fetch("SELECT count(*) FROM event") == [(2,)]
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def test_indexes_left_behind_by_a_killed_prune_go_with_the_next_one(
    spring: Any, stores: Stores, elasticsearch: Elasticsearch
) -> None:
    left = indexes.index_name(stores.settings.index_prefix, date(2019, 1, 1))
    elasticsearch.indices.create(index=left)
    plan = pruning.plan(stores, datetime(2019, 6, 1, tzinfo=UTC))
    assert plan == pruning.Plan(plan.cutoff, (), (), (left,))
    pruning.prune(stores, plan, no_progress)
    assert not elasticsearch.indices.exists(index=left)


def test_sizes_are_shown_by_month(spring: Any, stores: Stores) -> None:
    sizes = {one.month: one for one in pruning.list_sizes(stores)}
    march = sizes[date(2020, 3, 1)]
    assert (march.events, march.documents, march.generation) == (20, 20, 1)
    assert march.table_bytes > 0
    assert (march.index_bytes or 0) > 0


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.level for finding in findings}


def test_the_doctor_finds_a_service_in_order(spring: Any, settings: Settings, run_indexer: Any, waiting: Any) -> None:
    with run_indexer():
        spring.insert()
        spring.wait_visible()
        # Elasticsearch's health is that of the whole cluster, where an index of another test may be red for a while.
        waiting(lambda: levels(examine(settings))["Elasticsearch"] != "error")
        findings = examine(settings)
    bad = [f for f in findings if f.level == "error" and f.what != "Elasticsearch" and not f.what.startswith("disk")]
    assert bad == []
    assert levels(findings)["indexer"] == "ok"


def test_the_doctor_finds_what_is_wrong_and_what_to_do(
    spring: Any, settings: Settings, elasticsearch: Elasticsearch
) -> None:
    spring.insert(3, at="'2012-05-05'")
    spring.fetch("INSERT INTO index_failure VALUES (1, '2020-01-01', 'document_parsing_exception: no')")
    lost = index_months.list_indexes(spring.connection)[date(2020, 1, 1)].name
    elasticsearch.indices.delete(index=lost)
    stray = indexes.index_name(settings.index_prefix, date(2019, 1, 1))
    elasticsearch.indices.create(index=stray)
    findings = examine(settings)
    found = levels(findings)
    assert found["default partition"] == found["indexer"] == found["indexes"] == "error"
    assert found["refused events"] == found["unused indexes"] == "warning"
    assert all(finding.advice for finding in findings if finding.level != "ok")
    assert settings.database_url.get_secret_value() not in str(findings)
    found = levels(examine(settings, fix=True))
    assert found["default partition"] == "ok"
    assert "unused indexes" not in found


@pytest.mark.parametrize("away", ["database_url", "elasticsearch_url"])
def test_a_server_that_is_away_is_a_finding(settings: Settings, away: str) -> None:
    url = "postgresql://user:hidden@127.0.0.1:9/x" if away == "database_url" else "http://user:hidden@127.0.0.1:9"
    findings = examine(settings.model_copy(update={away: type(getattr(settings, away))(url)}))
    assert "error" in {finding.level for finding in findings}
    assert "hidden" not in str(findings)


def test_upkeep_makes_months_and_reports_the_default_partition(log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = list_partitions(log.connection)
    log.fetch(f"DROP TABLE {partition_name(before[-1])}")
    log.insert(1, at="'2012-05-05'")
    upkeep.do_once(log.connection)
    assert list_partitions(log.connection)[: len(before)] == before
    assert "default partition" in capsys.readouterr().out


def test_prune_by_command_is_a_dry_run_unless_told(spring: Any, settings: Settings) -> None:
    def run(*arguments: str) -> Any:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")}
        done = subprocess.run(
            [sys.executable, "-m", "eventsvc", "admin", *arguments, "--json"],
            env=environment | settings.to_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    dry = run("prune", "--older-than", "2020-03-01")
    assert (dry["done"], [row["events"] for row in dry["goes"]]) == (False, [10, 10])
    assert spring.fetch("SELECT count(*) FROM event") == [(40,)]
    assert run("prune", "--older-than", "2020-03-01", "--yes")["done"]
    assert spring.fetch("SELECT count(*) FROM event") == [(20,)]
    assert [row["events"] for row in run("partitions")][:1] == [20]
