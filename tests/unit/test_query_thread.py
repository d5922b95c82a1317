"""Long queries are read beside the event loop, a bounded number of them, and what is kept is right at any time."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from eventsvc.errors import QueriesQueued, QueryError
from eventsvc.query.parse import parse
from eventsvc.query.times import may_move
from eventsvc.search.query_thread import MOST_WAITING, QueryThread

DAY = 86_400_000
LONG = " OR ".join(["mesage ct 'ab'"] * 400)
_CASES = tomllib.loads((Path(__file__).parents[1] / "language/cases.toml").read_text(encoding="utf-8"))


async def _read(query_thread: QueryThread, text: str) -> Any:
    return await query_thread.run(text, lambda: query_thread.parse(text, now=0, tz="UTC"))


async def _read_beside_others(query_thread: QueryThread) -> int:
    """Read a long query that holds a mistake; give how often others had their turn meanwhile."""
    reading, turns = asyncio.create_task(_read(query_thread, LONG)), 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    with pytest.raises(QueryError):
        reading.result()
    return turns


def test_others_have_their_turn_while_a_long_query_is_read() -> None:
    assert asyncio.run(_read_beside_others(QueryThread())) > 10


async def _read_many(count: int) -> list[Any]:
    query_thread = QueryThread()
    return await asyncio.gather(*(_read(query_thread, LONG) for _ in range(count)), return_exceptions=True)


def test_only_so_many_long_queries_wait() -> None:
    found = asyncio.run(_read_many(MOST_WAITING + 5))
    assert [type(one) for one in found] == [QueryError] * MOST_WAITING + [QueriesQueued] * 5


def test_a_query_that_comes_again_is_read_once() -> None:
    query_thread = QueryThread()
    first = query_thread.parse("message ct 'buyer'", now=1, tz="UTC")
    assert query_thread.parse("message ct 'buyer'", now=2, tz="UTC") is first
    assert query_thread.parse("message ct 'buyer'", now=2, tz="Europe/Berlin") == first


@pytest.mark.parametrize(
    "text",
    ["createdAt gt now-1h", "createdAt eq 'last 2 days'", "createdAt gt 'to\\u0064ay'", "createdAt eq 'yesterday'"],
)
def test_what_means_something_else_tomorrow_is_not_kept(text: str) -> None:
    query_thread = QueryThread()
    assert query_thread.parse(text, now=0, tz="UTC") != query_thread.parse(text, now=DAY, tz="UTC")


@pytest.mark.parametrize("text", sorted({case["query"] for case in _CASES["case"]}))
def test_no_query_of_the_language_moves_unseen(text: str) -> None:
    assert may_move(text) or parse(text, now=0) == parse(text, now=40 * DAY)
