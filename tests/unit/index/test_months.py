"""Names of indexes."""

from __future__ import annotations

from datetime import date

from eventsvc.index.indexes import _free_generations, generation_of_name, index_name, month_of_name, write_alias

MONTH = date(2026, 11, 1)


def test_names_say_version_month_and_generation() -> None:
    assert index_name("events", MONTH) == "events-v2-2026.11"
    assert index_name("events", MONTH, 3) == "events-v2-2026.11-g3"
    assert write_alias("events-v2-2026.11") == "events-v2-2026.11-write"


def test_month_and_generation_are_read_back() -> None:
    for generation in (1, 2, 17):
        name = index_name("my-v2-2020.01", MONTH, generation)
        assert (month_of_name(name), generation_of_name(name)) == (MONTH, generation)


def test_the_next_generation_comes_after_all_that_are_or_were() -> None:
    names = ["p-v2-2026.11", "p-v2-2026.11-g4", "p-v2-2026.12-g9", "pp-v2-2026.11-g8", "p-v2-2026.11-g7x", ""]
    assert _free_generations(names, "p", MONTH)[0] == 5
    assert _free_generations([], "p", MONTH)[0] == 1
