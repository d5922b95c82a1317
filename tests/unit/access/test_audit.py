"""The audit counts, is bounded, and tries again; a list stands for the log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eventsvc.access.audit import MOST, Audit
from eventsvc.errors import LogUnavailable
from eventsvc.telemetry import AUDIT_DROPPED


class Written:
    """Keeps what is written; fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self._failures = failures

    async def append(self, new: Any) -> None:
        if self._failures:
            self._failures -= 1
            raise LogUnavailable("away")
        self.events.append(json.loads(new.data))


async def _note(writer: Any, mode: Any, queries: list[str]) -> None:
    audit = Audit(writer, mode, period=0.01)
    audit.start()
    for text in queries:
        audit.note(None, ("GET", "/event"), 401, {"q": text}, {"events": 2})
    await asyncio.sleep(0)
    await audit.close()


@pytest.mark.parametrize(("mode", "queries"), [("on", [None]), ("values", ["secret a", "secret b"]), ("off", [])])
def test_query_values_are_kept_only_if_they_are_asked_for(mode: str, queries: list[str | None]) -> None:
    writer = Written()
    asyncio.run(_note(writer, mode, ["secret a", "secret b"]))
    assert [event.get("q") for event in writer.events] == queries
    assert sum(event["requests"] for event in writer.events) == (0 if mode == "off" else 2)
    assert sum(event["events"] for event in writer.events) == (0 if mode == "off" else 4)


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    writer, before = Written(), AUDIT_DROPPED._value.get()
    asyncio.run(_note(writer, "values", [str(number) for number in range(MOST + 7)]))
    assert len(writer.events) == MOST
    assert AUDIT_DROPPED._value.get() - before == 7


async def _note_while_away(writer: Written) -> None:
    audit = Audit(writer, "on", period=0.01)  # type: ignore[arg-type]
    audit.start()
    audit.note(None, ("GET", "/event"), 401, {}, {})
    deadline = asyncio.get_running_loop().time() + 30
    while not writer.events:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    await audit.close()


def test_what_was_not_written_is_written_later() -> None:
    writer = Written(failures=3)
    asyncio.run(_note_while_away(writer))
    assert [event["requests"] for event in writer.events] == [1]
