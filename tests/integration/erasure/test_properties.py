"""Random erasures, searches and writes beside rebuilds: what is erased shows nowhere, everything else does."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from eventsvc.admin import rebuild
from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify

WHO = {"email": "a@example.com", "environment": "test"}


@pytest.mark.slow
@pytest.mark.usefixtures("indexer")
@pytest.mark.parametrize("seed", [1, 2])
def test_no_answer_shows_an_erased_event_and_nothing_else_disappears(
    api: Any, log: Any, settings: Any, stores: Any, seed: int
) -> None:
    chance = random.Random(seed)
    alive: dict[str, str] = {}
    stop = threading.Event()
    rebuilder = threading.Thread(target=_rebuild_again_and_again, args=(settings, stop), daemon=True)
    rebuilder.start()
    try:
        for number in range(60):
            _store(api, chance, alive, number)
            if chance.random() < 0.4 and alive:
                component = chance.choice(sorted(set(alive.values())))
                q = f"component eq '{component}' AND message ct '{chance.randint(0, 9)}'"
                gone = {m for m, c in alive.items() if c == component and q[-2] in m}
                assert api.erase(q).json["erased"] == len(gone)
                alive = {m: c for m, c in alive.items() if m not in gone}
            _check(api, chance, alive)
    finally:
        stop.set()
        rebuilder.join(60)
    log.wait_visible()
    _check(api, chance, alive)
    assert all(report.equal for report in verify(stores, list_months(stores.connection)))


def _store(api: Any, chance: random.Random, alive: dict[str, str], number: int) -> None:
    for part in range(chance.randint(1, 5)):
        message, component = f"event {number}.{part}", chance.choice("xyz")
        assert api.post("/event", WHO | {"component": component, "message": message}).status_code == 201
        alive[message] = component


def _check(api: Any, chance: random.Random, alive: dict[str, str]) -> None:
    component, digit = chance.choice("xyz"), str(chance.randint(0, 9))
    expected = [m for m, c in alive.items() if c == component and digit in m][::-1]
    assert api.find(f"component eq '{component}' AND message ct '{digit}'") == expected
    assert api.find() == list(alive)[::-1]
    counted = api.get("/event/stats", by="component").json
    assert counted["count"] == len(alive)
    assert {one["value"]: one["count"] for one in counted["top"]} == {
        c: list(alive.values()).count(c) for c in set(alive.values())
    }


def _rebuild_again_and_again(settings: Any, stop: threading.Event) -> None:
    with open_stores(settings) as stores:
        while not stop.wait(0.2):
            for month in list_months(stores.connection):
                with stores.exclusive():
                    done = rebuild.rebuild(stores, month, rate=None, advance=lambda _: None)
                    rebuild.remove_old(stores, [done], grace=0.0)
