"""The model of days that no machine here can hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.simulate import DAY, Costs, Layout, curve, predict, simulate

COSTS = Costs(
    api=10e-6,
    log=20e-6,
    reading=5e-6,
    indexer=30e-6,
    elasticsearch=100e-6,
    search=0.01,
    tail=1e-6,
    log_bytes=1_350,
    index_bytes=500,
)
CORES = st.floats(0.1, 64)


@given(layout=st.builds(Layout, CORES, CORES, CORES, CORES), events=st.floats(1e6, 1e10))
def test_every_event_is_refused_or_stored_and_is_indexed_or_waits(layout: Layout, events: float) -> None:
    day = simulate(layout, COSTS, curve(events))
    assert day.stored + day.refused == pytest.approx(events, rel=1e-3)
    assert 0 <= day.indexed <= day.stored
    assert day.stored - day.indexed <= day.longest_tail


@given(st.floats(1e6, 1e10), st.floats(1.5, 5))
def test_the_busiest_moment_has_the_peak(events: float, peak: float) -> None:
    arrive = curve(events, peak)
    assert arrive(DAY / 2) == pytest.approx(events / DAY * peak, rel=0.1)
    assert max(map(arrive, range(0, DAY, 600))) == arrive(DAY / 2)


def test_a_layout_with_reserve_has_no_tail_and_a_smaller_one_has() -> None:
    events = 1_000_000_000
    noon = curve(events)(DAY / 2)
    enough = Layout(10, 10, noon * COSTS.indexer, noon * COSTS.elasticsearch)
    day = simulate(enough, COSTS, curve(events))
    assert (day.refused, day.longest_wait, day.slowest_search) == (0, 0, COSTS.search)
    assert day.indexed == day.stored == pytest.approx(events)
    short = Layout(10, 10, noon * COSTS.indexer, noon * COSTS.elasticsearch * 0.7)
    day = simulate(short, COSTS, curve(events))
    assert day.longest_tail > 1_000_000
    assert day.slowest_search == pytest.approx(COSTS.search + day.longest_tail * COSTS.tail)


def test_a_part_that_is_lost_holds_the_index_back_and_loses_nothing() -> None:
    whole, lost = Layout(10, 10, 2, 8), Layout(10, 10, 2, 8, "elasticsearch", 8, (11, 12))
    day = simulate(lost, COSTS, curve(1_000_000_000))
    assert day.refused == 0
    assert day.longest_wait == math.inf
    assert day.longest_tail > simulate(whole, COSTS, curve(1_000_000_000)).longest_tail


def test_writers_come_first_on_a_machine_that_all_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    client = 5e-6
    run = predict(COSTS, client, rate=20_000, seconds=10)
    spare = 2 - 20_000 * (COSTS.api + COSTS.log + client)
    indexed = spare / (COSTS.indexer + COSTS.elasticsearch + COSTS.reading)
    assert run.behind == pytest.approx((20_000 - indexed) * 10)
    assert predict(COSTS, client, rate=1_000, seconds=10).behind == 0
