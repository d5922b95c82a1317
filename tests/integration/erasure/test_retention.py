"""Rules remove what is too old; holds keep what they match; nothing else disappears."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from eventsvc.admin import prune
from eventsvc.erasure import erase, retention
from eventsvc.log.months import ensure_months
from eventsvc.log.progress import erasures, retention_rules
from eventsvc.log.progress.index_months import list_indexes
from eventsvc.log.progress.retention_rules import Rule

DAY = 86_400


def test_a_rule_removes_what_matches_and_is_too_old(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "BATCH", 3)
    log.insert(10, message="old #%s", at="now() - interval '3 days'")
    log.insert(2, message="other", at="now() - interval '3 days'")
    log.insert(2, message="old but young")
    erasures.put_hold(log.connection, "keep", "message eq 'old #7'", "r")
    retention_rules.put_rule(log.connection, Rule("message sw 'old'", 2 * DAY))

    assert sum(retention.apply(log.connection, lambda _: None)) == 9

    left = [message for (message,) in log.fetch("SELECT message FROM event ORDER BY seq")]
    assert left == ["old #7", "other", "other", "old but young", "old but young"]
    assert log.fetch("SELECT count(*) FROM erased_id") == [(0,)]


def test_a_rule_for_every_event_and_an_age_that_changes(log: Any) -> None:
    log.insert(3, at="now() - interval '40 days'")
    log.insert(1, at="now() - interval '5 days'")
    retention_rules.put_rule(log.connection, Rule("", 90 * DAY))
    assert sum(retention.apply(log.connection, lambda _: None)) == 0
    retention_rules.put_rule(log.connection, Rule("", 30 * DAY))

    assert sum(retention.apply(log.connection, lambda _: None)) == 3
    assert retention_rules.list_rules(log.connection) == [Rule("", 30 * DAY)]
    assert log.fetch("SELECT count(*) FROM event") == [(1,)]


def test_a_rule_for_every_event_drops_whole_months_with_their_indexes(log: Any, stores: Any, run_indexer: Any) -> None:
    with run_indexer():
        log.insert(5, at="'2020-01-10'")
        log.insert(5, at="'2020-02-10'")
        log.insert(2)
        log.wait_visible()
    ensure_months(log.connection, date(2020, 1, 1), date(2020, 2, 1))
    names = {month: one.name for month, one in list_indexes(log.connection).items()}
    erasures.put_hold(log.connection, "keep", "createdAt eq '2020-02-10'", "r")
    retention_rules.put_rule(log.connection, Rule("", 30 * DAY))
    deleted: list[str] = []

    assert sum(retention.apply(log.connection, deleted.append)) == 0

    assert deleted == [names[date(2020, 1, 1)]]
    assert log.fetch("SELECT count(*) FROM event") == [(7,)]
    erasures.release_hold(log.connection, "keep")
    list(retention.apply(log.connection, deleted.append))
    assert deleted == [names[date(2020, 1, 1)], names[date(2020, 2, 1)]]
    assert log.fetch("SELECT count(*) FROM event") == [(2,)]


def test_prune_keeps_what_a_hold_keeps(log: Any, stores: Any) -> None:
    log.insert(5, message="old #%s", at="'2020-01-10'")
    log.insert(2)
    ensure_months(log.connection, date(2020, 1, 1), date(2020, 1, 1))
    erasures.put_hold(log.connection, "keep", "message eq 'old #3'", "r")
    plan = prune.plan(stores, datetime(2021, 1, 1, tzinfo=UTC))

    assert (plan.months, plan.partial) == ((), ((date(2020, 1, 1), 4),))
    prune.prune(stores, plan, lambda _: None)

    assert [m for (m,) in log.fetch("SELECT message FROM event WHERE created_at < '2021-01-01'")] == ["old #3"]
