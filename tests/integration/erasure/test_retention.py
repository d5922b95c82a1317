"""Rules remove what is too old; holds keep what they match; nothing else disappears."""

from __future__ import annotations

from typing import Any

import pytest

from eventsvc.erasure import erase, retention
from eventsvc.log.progress import erasures, retention_rules
from eventsvc.log.progress.retention_rules import Rule

DAY = 86_400


def test_a_rule_removes_what_matches_and_is_too_old(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "BATCH", 3)
    log.insert(10, message="old #%s", at="now() - interval '3 days'")
    log.insert(2, message="other", at="now() - interval '3 days'")
    log.insert(2, message="old but young")
    erasures.put_hold(log.connection, "keep", "message eq 'old #7'", "r")
    retention_rules.put_rule(log.connection, Rule("message sw 'old'", 2 * DAY))

    assert sum(retention.apply(log.connection)) == 9

    left = [message for (message,) in log.fetch("SELECT message FROM event ORDER BY seq")]
    assert left == ["old #7", "other", "other", "old but young", "old but young"]
    assert log.fetch("SELECT count(*) FROM erased_id") == [(0,)]


def test_a_rule_for_every_event_and_an_age_that_changes(log: Any) -> None:
    log.insert(3, at="now() - interval '40 days'")
    log.insert(1, at="now() - interval '5 days'")
    retention_rules.put_rule(log.connection, Rule("", 90 * DAY))
    assert sum(retention.apply(log.connection)) == 0
    retention_rules.put_rule(log.connection, Rule("", 30 * DAY))

    assert sum(retention.apply(log.connection)) == 3
    assert retention_rules.list_rules(log.connection) == [Rule("", 30 * DAY)]
    assert log.fetch("SELECT count(*) FROM event") == [(1,)]
