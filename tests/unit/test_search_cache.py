"""What is kept, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from eventsvc.log.read.state import LogState
from eventsvc.search.cache import Cache

MOMENT = LogState(watermark=1, fence=1, epoch=0, erased=(), refused=(), indexes=(), drawn=1, layout="")


@dataclass(frozen=True)
class Stone:
    weight: int

    def weigh(self) -> int:
        return self.weight


def put(cache: Cache, name: str, weight: int) -> None:
    cache.put((name,), MOMENT, Stone(weight))


def test_the_latest_answer_to_a_question_is_kept() -> None:
    cache = Cache(1000)
    put(cache, "a", 10)
    put(cache, "a", 20)
    assert cache.get(("a",)) == (MOMENT, Stone(20))


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(1000)
    for name in "ab":
        put(cache, name, 400)
    cache.get(("a",))
    put(cache, "c", 400)
    assert [cache.get((name,)) is not None for name in "abc"] == [True, False, True]


def test_what_is_too_large_is_not_kept() -> None:
    cache = Cache(1000)
    put(cache, "a", 5000)
    assert (cache.get(("a",)), cache.used) == (None, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 700))))
def test_it_never_holds_more_than_it_may(puts: list[tuple[str, int]]) -> None:
    cache = Cache(1000)
    for name, weight in puts:
        put(cache, name, weight)
        assert 0 <= cache.used <= 1000
    for name in "abcdef":
        cache.drop((name,))
    assert cache.used == 0
