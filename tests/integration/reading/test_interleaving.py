"""Whatever happens between the two sides of one question, its answer is exact: they may be asked in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from eventsvc.admin import rebuild
from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, repair, retry_refused, verify
from eventsvc.log.progress import index_months
from eventsvc.paging import PageRequest
from eventsvc.search import both_stores
from eventsvc.search.both_stores import Source
from eventsvc.search.counts import CountRequest
from eventsvc.search.search import Search
from eventsvc.search.stats import Stats

MESSAGES = list("abcdefghi")


class Between:
    """Lets something happen once, just before one of the sides is asked."""

    def __init__(self, side: str) -> None:
        self._side = side
        self.action: Callable[[], object] | None = None

    async def turn(self, side: str) -> None:
        if self.action is not None and side == self._side:
            action, self.action = self.action, None
            await asyncio.to_thread(action)


class Log:
    """A reader that lets something happen before it reads the tail, or the events that the index has found."""

    def __init__(self, reader: Any, between: Between) -> None:
        self._reader, self._between = reader, between

    async def tail(self, *args: Any, **options: Any) -> Any:
        await self._between.turn("tail")
        return await self._reader.tail(*args, **options)

    async def found(self, *args: Any, **options: Any) -> Any:
        await self._between.turn("found")
        return await self._reader.found(*args, **options)

    async def whole(self, *args: Any, **options: Any) -> Any:
        return await self._reader.whole(*args, **options)


class Index:
    """An index reader that lets something happen before it asks the index, when the moment is known."""

    def __init__(self, index: Any, between: Between) -> None:
        self._index, self._between = index, between

    async def positions(self, *args: Any) -> Any:
        await self._between.turn("index")
        return await self._index.positions(*args)

    async def probe(self, alias: str) -> None:
        await self._index.probe(alias)


def move_on(world: Any) -> None:
    world.index_all()


def store(world: Any) -> None:
    world.store("new", "new")


def erase(world: Any, *gone: str) -> None:
    gone = gone or ("c", "h")
    world.execute(
        "BEGIN; INSERT INTO erased SELECT seq, date_trunc('month', created_at) FROM event WHERE message IN %s;"
        " DELETE FROM event WHERE message IN %s; UPDATE erasure_epoch SET epoch = epoch + 1; COMMIT",
        (gone, gone),
    )


def erase_and_move_on(world: Any) -> None:
    erase(world)
    world.index_all()
    world.wait_until(lambda: not world.execute("SELECT FROM erased"))


def refuse(world: Any) -> None:
    """As after `verify --repair`, whose writes the index would not take."""
    world.execute(
        "INSERT INTO index_failure SELECT seq, date_trunc('month', created_at), 'test' FROM event WHERE message = 'd'"
    )


def take_back(world: Any) -> None:
    with open_stores(world.settings) as stores:
        assert retry_refused(stores)[1] == 0


def swap(world: Any) -> None:
    with open_stores(world.settings) as stores:
        months = index_months.list_indexes(stores.connection)
        rebuilt = [rebuild.rebuild(stores, month, rate=None, advance=lambda _: None) for month in months]
        rebuild.remove_old(stores, rebuilt, grace=0)


def lose(world: Any) -> None:
    """The index is gone, found to be so, and filled again."""
    with open_stores(world.settings) as stores:
        names = [month.name for month in index_months.list_indexes(stores.connection).values()]
        stores.client.indices.delete(index=names)
    world.index_all()
    world.wait_until(lambda: world.watermark() >= world.execute("SELECT max(seq) FROM event")[0][0])


ACTIONS = [move_on, store, erase, erase_and_move_on, refuse, take_back, swap, lose]


@pytest.mark.parametrize("side", ["tail", "index", "found"])
@pytest.mark.parametrize("cache", [0, 10_000_000])
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_what_happens_between_the_two_sides_makes_no_answer_wrong(
    world: Any, monkeypatch: pytest.MonkeyPatch, action: Callable[[Any], None], cache: int, side: str
) -> None:
    monkeypatch.setattr(both_stores, "_RECENT", 60.0)
    world.store(*MESSAGES[:6])
    world.index_all()
    world.store(*MESSAGES[6:])
    if action is take_back:
        refuse(world)
    between = Between(side)
    both = world.both_stores(cache=cache)
    both._index = Index(both._index, between)
    search = Search(Log(world.reader(), between), both)  # type: ignore[arg-type]
    assert messages(world, search) == MESSAGES[::-1]
    between.action = lambda: action(world)
    query, wanted = world.compiled("environment in ('test', 'x')"), PageRequest(100, count=True)
    answer = world.run(search.find(query, wanted))
    assert between.action is None
    found = [event.message for event in answer.events]
    assert answer.total == len(found)
    erased = {"c", "h"} if action in (erase, erase_and_move_on) else set()
    # The log has the last word about what is erased.
    assert [message for message in found if message != "new"] == [m for m in MESSAGES[::-1] if m not in erased]
    # The tail is read before the events that the index has found, and at any time while the index works.
    possible = {("tail", store): {2}, ("index", store): {0, 2}}
    assert found.count("new") in possible.get((side, action), {0})
    # And what was kept of it does no harm later on.
    world.wait_until(lambda: world.run(asyncio.sleep(0.01, not both.unavailable_because)))
    expected = [*world.execute("SELECT message FROM event ORDER BY created_at DESC, seq DESC")]
    again = world.run(search.find(query, wanted))
    assert [event.message for event in again.events] == [message for (message,) in expected]
    assert again.total == len(expected)
    assert again.provenance.source != Source.SQL


def messages(world: Any, search: Search) -> list[str]:
    return [event.message for event in world.find(search, "environment eq 'test'").events]


@pytest.mark.parametrize("limit", [3, 100])
def test_a_kept_page_stays_while_only_events_of_other_pages_are_erased(world: Any, limit: int) -> None:
    world.store(*MESSAGES)
    world.index_all()
    search = world.search(cache=10_000_000)

    def find() -> tuple[str, Source]:
        page = world.find(search, limit=limit)
        assert page.more == (limit < len(MESSAGES))
        return "".join(event.message for event in page.events), page.provenance.source

    whole = "ihgfedcba"
    assert find() == (whole[:limit], Source.INDEX_AND_TAIL)
    erase(world, "b")
    whole = "ihgfedca"
    assert find() == (whole[:limit], Source.CACHE_AND_TAIL)
    erase(world, "h")
    whole = "igfedca"
    # The index knows what takes the place of an erased event, unless it has found all events already.
    assert find() == (whole[:limit], Source.INDEX_AND_TAIL if limit < len(MESSAGES) else Source.CACHE_AND_TAIL)


@pytest.mark.parametrize("side", ["tail", "found"])
@pytest.mark.parametrize(("newest_first", "expected"), [(True, "ihfed"), (False, "bcdef")])
def test_pages_miss_nothing_while_events_are_erased_before_the_log_is_asked(
    world: Any,
    side: str,
    newest_first: bool,  # noqa: FBT001
    expected: str,
) -> None:
    world.store(*MESSAGES)
    world.index_all()
    between = Between(side)
    search = Search(Log(world.reader(), between), world.both_stores(cache=10_000_000))  # type: ignore[arg-type]
    found, after = "", None
    for gone in ("ag", "bh", "ci"):
        between.action = partial(erase, world, *gone)
        page = world.find(search, limit=2, newest_first=newest_first, after=after)
        found += "".join(event.message for event in page.events)
        after = page.end
    assert (found, after) == (expected, None)


def test_a_kept_page_is_void_once_the_index_is_repaired(world: Any) -> None:
    seqs = world.store(*MESSAGES)
    world.index_all()
    search = world.search(cache=10_000_000)
    with open_stores(world.settings) as stores:
        (index,) = index_months.list_indexes(stores.connection).values()
        stores.client.delete(index=index.name, id=str(seqs[3]), refresh=True)
        assert "d" not in messages(world, search)
        for report in list(verify(stores, list_months(stores.connection))):
            repair(stores, report)
    assert messages(world, search) == MESSAGES[::-1]


class Restless:
    """A reader of a log from which events are erased all the time."""

    def __init__(self, world: Any) -> None:
        self._world, self._reader = world, world.reader()

    async def tail(self, *args: Any, **options: Any) -> Any:
        await asyncio.to_thread(self._world.execute, "UPDATE erasure_epoch SET epoch = epoch + 1")
        return await self._reader.tail(*args, **options)

    async def found(self, *args: Any, **options: Any) -> Any:
        return await self._reader.found(*args, **options)

    async def whole(self, *args: Any, **options: Any) -> Any:
        return await self._reader.whole(*args, **options)


def test_counts_come_from_the_log_alone_while_the_index_can_never_catch_it_at_rest(world: Any) -> None:
    world.store(*MESSAGES)
    world.index_all()
    restless: Any = Restless(world)
    answer = world.run(Stats(restless, world.both_stores()).count(world.compiled(""), CountRequest()))
    assert (answer.total, answer.provenance.source) == (len(MESSAGES), Source.SQL)
    page = world.find(Search(restless, world.both_stores()), count=True)
    assert (page.total, page.provenance.source) == (len(MESSAGES), Source.SQL)
    page = world.find(Search(restless, world.both_stores()))
    texts = [event.message for event in page.events]
    assert (texts, page.provenance.source) == (MESSAGES[::-1], Source.INDEX_AND_TAIL)
