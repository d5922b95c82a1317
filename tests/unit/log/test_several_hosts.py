"""What a failover asks of the writer: several hosts in one DSN, and a COMMIT that only one server has."""

from __future__ import annotations

import pytest
from psycopg2.extensions import parse_dsn

from eventsvc.errors import CommitUnknown, LogError
from eventsvc.log.async_connection import split_hosts
from eventsvc.log.write.commit_result import check_committed


def test_each_host_gets_a_dsn_of_its_own_with_all_that_is_asked_for() -> None:
    split = split_hosts("postgresql://me:pw@one:1,two:2,three:3/events?target_session_attrs=read-write")
    assert [(parse_dsn(dsn)["host"], parse_dsn(dsn)["port"]) for dsn in split] == [
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
    ]
    assert {parse_dsn(dsn)["target_session_attrs"] for dsn in split} == {"read-write"}


@pytest.mark.parametrize(
    ("dsn", "ports"), [("host=a,b port=7", ["7", "7"]), ("host=a,b", [None, None]), ("host=a,b port=7,", ["7", None])]
)
def test_ports_may_be_shared_or_left_out(dsn: str, ports: list[str | None]) -> None:
    assert [parse_dsn(one).get("port") for one in split_hosts(dsn)] == ports


def test_a_dsn_of_one_host_stays_as_it_is() -> None:
    assert split_hosts("postgresql://localhost/events") == ["postgresql://localhost/events"]


def test_a_commit_that_no_standby_has_confirmed_is_not_acknowledged() -> None:
    check_committed("COMMIT")
    with pytest.raises(LogError, match="rolled"):
        check_committed("ROLLBACK")
    with pytest.raises(CommitUnknown):
        check_committed("COMMIT", ["WARNING:  canceling wait for synchronous replication due to user request\n"])
