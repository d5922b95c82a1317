"""After a purge, neither store keeps a byte of erased events that a query could bring back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from eventsvc.access.store import Wanted, create
from eventsvc.admin.audited import user_name
from eventsvc.erasure.purge import inspect, purge
from eventsvc.log.progress import index_months


@pytest.fixture
def command(settings: Any) -> Callable[..., Any]:
    """Runs `eventsvc admin …`; gives the finished process."""
    environment = os.environ | {
        "EVENTSVC_DATABASE_URL": settings.database_url.get_secret_value(),
        "EVENTSVC_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "EVENTSVC_INDEX_PREFIX": settings.index_prefix,
        "EVENTSVC_AUDIT": "values",
    }
    program = [sys.executable, "-m", "eventsvc", "admin"]
    return lambda *words: subprocess.run(
        [*program, *words], env=environment, capture_output=True, text=True, check=False, timeout=240
    )


def audited(log: Any) -> list[dict[str, Any]]:
    """What the audit says of commands, oldest first, without what all of them have."""
    rows = log.fetch("SELECT data::text FROM event WHERE component = 'eventsvc.audit' ORDER BY seq")
    noted = [json.loads(text) for (text,) in rows]
    for data in noted:
        common = {name: data.pop(name) for name in ("key", "who", "user", "requests")}
        assert common == {"key": None, "who": "command", "user": user_name(), "requests": 1}
    return noted


def words(stores: Any, begin: str) -> list[str]:
    """The terms of the index's dictionaries that begin so, those of deleted documents included."""
    found: list[str] = []
    for index in index_months.list_indexes(stores.connection).values():
        answer = stores.client.terms_enum(index=index.name, field="component", string=begin, size=100, timeout="30s")
        assert answer["complete"]
        found += answer["terms"]
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("indexer")
def test_a_purge_leaves_no_document_no_word_and_no_row(log: Any, stores: Any, command: Any) -> None:
    log.insert(3, message="stays")
    log.fetch(
        "INSERT INTO event (id, email, environment, component, message, data)"
        " SELECT gen_random_uuid(), 'gone@example.com', 'e', 'zyzzyva-' || i, 'secret', '{}'"
        " FROM generate_series(1, 3) AS i"
    )
    log.wait_visible()
    assert len(words(stores, "zyzzyva")) == 3

    shown = command("erase", "--email", "gone@example.com")
    assert shown.returncode == 0
    assert "3 events would go" in shown.stdout
    assert log.fetch("SELECT count(*) FROM event") == [(6,)]

    done = command("erase", "--email", "gone@example.com", "--reason", "asked for", "--yes", "--purge", "--json")
    assert done.returncode == 0, done.stdout

    left = inspect(stores.connection, stores.elasticsearch)
    assert left.nothing, left
    assert words(stores, "zyzzyva") == []
    assert log.fetch("SELECT count(*) FROM event") == [(3,)]
    proven = command("verify", "--erased", "--json")
    assert proven.returncode == 0, proven.stdout
    assert json.loads(proven.stdout)["nothing"]


@pytest.mark.usefixtures("indexer")
def test_what_is_left_without_a_purge_is_found(log: Any, stores: Any, command: Any, waiting: Any) -> None:
    log.insert(3, message="secret")
    log.insert(3, message="stays")
    log.wait_visible()
    assert command("erase", "--q", "message eq 'secret'", "--reason", "r", "--yes").returncode == 0
    waiting(lambda: not log.fetch("SELECT FROM erased"))

    # Elasticsearch's own statistics lag a little.
    left = waiting(lambda: (seen := inspect(stores.connection, stores.elasticsearch)).deleted and seen)

    assert sum(left.deleted.values()) > 0
    assert sum(left.dead_rows.values()) > 0
    assert not left.nothing
    assert command("verify", "--erased").returncode == 3


def test_a_purge_without_an_index_cleans_the_log(log: Any, stores: Any, command: Any) -> None:
    log.insert(3, message="secret")
    create(stores.connection, Wanted("anybody", ["read"]))
    assert command("erase", "--q", "message eq 'secret'", "--reason", "r", "--yes").returncode == 0
    ((erasure,),) = log.fetch("SELECT id::text FROM erasure")
    assert audited(log) == [{"command": "admin erase", "erasure": erasure, "events": 3, "q": "message eq 'secret'"}]

    steps = list(purge(stores.connection, None))

    assert steps[-1] == "vacuuming erasure"
    assert inspect(stores.connection, None).nothing


def test_rules_and_holds_from_the_command_line(log: Any, command: Any) -> None:
    log.insert(2, at="now() - interval '3 days'")
    log.insert(1)
    create(log.connection, Wanted("anybody", ["read"]))
    rule = {"q": "component eq 'orders'"}

    assert command("retention", "set", "component eq 'orders'", "2d").returncode == 0
    assert command("retention", "hold", "h", "message eq 'nothing'", "--reason", "r").returncode == 0
    listed = json.loads(command("retention", "list", "--json").stdout)
    assert listed["rules"] == [{"query": "component eq 'orders'", "seconds": 172800}]
    assert [one["name"] for one in listed["holds"]] == ["h"]
    counted = json.loads(command("retention", "preview", "component eq 'orders'", "2d", "--json").stdout)
    assert sum(month["events"] for month in counted) == 2
    assert command("retention", "release", "h").returncode == 0
    assert command("retention", "release", "h").returncode != 0
    assert command("retention", "remove", "component eq 'orders'").returncode == 0
    assert json.loads(command("retention", "list", "--json").stdout) == {"rules": [], "holds": []}
    assert log.fetch("SELECT count(*) FROM event WHERE component = 'orders'") == [(3,)]
    assert audited(log) == [
        {"command": "admin retention set", "events": 0, "seconds": 172800} | rule,
        {"command": "admin retention hold", "events": 0, "hold": "h", "q": "message eq 'nothing'"},
        {"command": "admin retention release", "events": 0, "hold": "h"},
        {"command": "admin retention remove", "events": 0} | rule,
    ]
