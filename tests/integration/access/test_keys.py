"""Keys in PostgreSQL, the view that a process has of them, and the commands that make them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from eventsvc.access import store
from eventsvc.access.key_text import is_whole, make_key
from eventsvc.access.keys import Keys
from eventsvc.access.rights import EVERYTHING, Right
from eventsvc.access.store import Wanted
from eventsvc.admin.audited import user_name
from eventsvc.errors import InvalidParameter, LogUnavailable, QueryError, SetupError, Unauthenticated
from eventsvc.log.connection import Connection, Pool

WANTED = Wanted("shipper", ["write", "read"], "component eq 'orders'", {"environment": "test"}, "100/s")


def grant_of(connection: Connection, text: str) -> Any:
    from eventsvc.access.key_text import digest

    return store.load_grants(connection)[1].get(digest(text))


def test_a_key_is_stored_as_a_digest_alone(connection: Connection, database: str) -> None:
    made = store.create(connection, WANTED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT access_key::text FROM access_key")
        ((row,),) = cursor.fetchall()

    assert is_whole(made.text)
    assert made.text[11:] not in row
    assert made.text not in repr(made)


def test_a_good_key_allows_what_was_wanted(connection: Connection) -> None:
    assert store.load_grants(connection) == (False, {})

    grant = grant_of(connection, store.create(connection, WANTED).text)

    assert (grant.name, grant.rights) == ("shipper", {Right.WRITE, Right.READ})
    assert (grant.where, grant.defaults, grant.rate.requests) == (WANTED.where, WANTED.defaults, 100)


def test_after_a_rotation_both_keys_are_good_and_the_grace_ends_the_old_one(connection: Connection) -> None:
    old = store.create(connection, WANTED)

    new = store.rotate(connection, "shipper", timedelta(hours=1))
    assert [grant_of(connection, one.text).where for one in (old, new)] == [WANTED.where] * 2
    with pytest.raises(InvalidParameter):
        store.rotate(connection, "shipper", timedelta(0))
    store.revoke(connection, old.key.id)
    newest = store.rotate(connection, "shipper", timedelta(0))

    assert [None, None, "shipper"] == [
        found and found.name for found in (grant_of(connection, one.text) for one in (old, new, newest))
    ]


def test_revoking_a_name_ends_all_its_keys(connection: Connection) -> None:
    old = store.create(connection, WANTED)
    store.rotate(connection, "shipper", timedelta(hours=1))

    assert len(store.revoke(connection, "shipper")) == 2
    assert store.load_grants(connection) == (True, {})
    with pytest.raises(InvalidParameter):
        store.revoke(connection, old.key.id)
    store.create(connection, WANTED)  # the name is free again


def test_an_expired_key_is_not_good(connection: Connection) -> None:
    made = store.create(connection, Wanted("short", ["read"], expires=timedelta(0)))

    assert grant_of(connection, made.text) is None
    assert [key.state for key in store.list_keys(connection)] == ["expired"]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Wanted("bad name", ["read"]), InvalidParameter),
        (Wanted("none", []), InvalidParameter),
        (Wanted("where", ["read"], "component is 'x'"), QueryError),
        (Wanted("rate", ["read"], rate="often"), InvalidParameter),
        (Wanted("field", ["read"], defaults={"message": "x"}), InvalidParameter),
        (Wanted("email", ["read"], defaults={"email": "nobody"}), InvalidParameter),
        (Wanted("twice", ["read"]), InvalidParameter),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_senseless_key_is_not_made(connection: Connection, wanted: Wanted, error: type[Exception]) -> None:
    store.create(connection, Wanted("twice", ["read"]))

    with pytest.raises(error):
        store.create(connection, wanted)
    assert len(store.list_keys(connection)) == 1


def test_a_key_made_elsewhere_is_stored_once_and_not_after_it_was_revoked(connection: Connection) -> None:
    text = make_key()
    wanted = Wanted("admin", list(Right))

    assert [store.install(connection, wanted, text) for _ in range(2)] == [True, False]
    store.revoke(connection, "admin")
    assert not store.install(connection, wanted, text)
    assert grant_of(connection, text) is None
    with pytest.raises(SetupError):
        store.install(connection, wanted, "secret")


def test_a_process_learns_of_keys_within_two_looks(connection: Connection, database: str) -> None:
    async def run() -> None:
        pool = Pool(database, size=1)
        keys = Keys(pool, open_without=True, refresh=0.05)
        await keys.start()
        assert keys.find(None) is EVERYTHING
        made = await asyncio.to_thread(store.create, connection, WANTED)
        await _eventually(lambda: _answer(keys, None) == "Unauthenticated")
        assert keys.find(made.text).name == "shipper"
        assert {_answer(keys, text) for text in (make_key(), "x", "")} == {"Unauthenticated"}
        await asyncio.to_thread(store.revoke, connection, "shipper")
        await _eventually(lambda: _answer(keys, made.text) == "Unauthenticated")
        assert _answer(keys, None) == "Unauthenticated"  # without a good key it is no more open than before
        await keys.close()
        await asyncio.to_thread(pool.close)

    asyncio.run(run())


def test_an_answer_under_way_ends_with_its_key(connection: Connection, database: str) -> None:
    async def run() -> None:
        pool = Pool(database, size=1)
        keys = Keys(pool, open_without=False, refresh=0.05)
        made, other = (store.create(connection, Wanted(name, ["read"])) for name in ("one", "two"))
        await keys.start()
        tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(2)]
        for task, key in zip(tasks, (made, other), strict=True):
            keys.begin(keys.find(key.text), task)
        await asyncio.to_thread(store.revoke, connection, "one")
        await _eventually(tasks[0].cancelled)
        assert not tasks[1].cancelled()
        tasks[1].cancel()
        await keys.close()
        await asyncio.to_thread(pool.close)

    asyncio.run(run())


def test_keys_stay_known_while_the_log_is_away_and_nobody_gets_in_before_they_are_known(database: str) -> None:
    async def run() -> None:
        pool = Pool("postgresql://nobody@127.0.0.1:1/none", size=1)
        keys = Keys(pool, open_without=True, refresh=0.05)
        await keys.start()
        with pytest.raises(LogUnavailable):
            keys.find(None)
        await keys.close()
        await asyncio.to_thread(pool.close)

    asyncio.run(run())


def test_the_last_use_is_kept_to_the_minute_and_not_written_by_each_request(
    connection: Connection, database: str
) -> None:
    made = store.create(connection, WANTED)

    async def run() -> None:
        pool = Pool(database, size=1)
        keys = Keys(pool, open_without=True, refresh=0.05)
        await keys.start()
        for _ in range(1000):
            keys.find(made.text)
        await keys.close()
        await asyncio.to_thread(pool.close)

    asyncio.run(run())
    (key,) = store.list_keys(connection)

    assert key.last_used_at is not None
    assert key.last_used_at.timestamp() % 60 == 0
    assert abs(key.last_used_at.timestamp() - time.time()) < 120


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _answer(keys: Keys, text: str | None) -> str:
    try:
        return keys.find(text).name
    except (Unauthenticated, LogUnavailable) as exc:
        return type(exc).__name__


class Commands:
    """`eventsvc admin keys …` as processes."""

    def __init__(self, dsn: str) -> None:
        self._environment = os.environ | {"EVENTSVC_DATABASE_URL": dsn}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eventsvc", "admin", "keys", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


def test_the_commands_make_list_rotate_and_revoke(database: str, connection: Connection) -> None:
    commands = Commands(database)
    wanted = ["--right", "write", "--right", "read", "--where", "component eq 'a'", "--default", "component=a"]

    made = commands.json("create", "shop", *wanted, "--rate", "5/s", "--expires", "90d")
    rotated = commands.json("rotate", "shop")
    (old, new) = commands.json("list")
    revoked = commands.json("revoke", made["id"])

    assert is_whole(made["key"])
    assert is_whole(rotated["key"])
    assert {"id", "name", "key"} <= set(made)
    assert (old["id"], new["id"], revoked) == (made["id"], rotated["id"], [made["id"]])
    assert (new["where"], new["defaults"], new["rate"]) == ("component eq 'a'", {"component": "a"}, "5/s")
    assert new["expiresAt"] > old["expiresAt"]
    assert "key" not in old
    assert grant_of(connection, made["key"]) is None
    assert grant_of(connection, rotated["key"]).name == "shop"
    with connection.cursor() as cursor:
        cursor.execute("SELECT message, data::text FROM event WHERE component = 'eventsvc.audit' ORDER BY seq")
        noted = [(message, json.loads(data)) for message, data in cursor]
    assert [message for message, _ in noted] == [
        f"{user_name()}: eventsvc admin keys {verb}" for verb in ("create", "rotate", "revoke")
    ]
    assert [(data.get("made"), data.get("of"), data.get("revoked")) for _, data in noted] == [
        (made["id"], "shop", None),
        (rotated["id"], "shop", None),
        (None, None, [made["id"]]),
    ]
    assert made["key"][11:] not in str(noted)


def test_a_wrong_option_is_one_line_that_says_what_may_stand_there(database: str) -> None:
    done = Commands(database).run("create", "shop", "--right", "fly")

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "write, read, erase, admin" in done.stderr
