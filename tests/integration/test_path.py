"""An event passes the functions that docs/architecture.md names, in the order of the page."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from falcon.testing import ASGIConductor

import eventsvc
from eventsvc.app import create_app
from eventsvc.settings import Settings

PACKAGE = Path(eventsvc.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
# The conductor stands for the connection, and the indexer has begun to run before the event comes.
OUTSIDE = {
    ("serve/parsing.py", "ParsingInParts.data_received"),
    ("serve/http_connection.py", "HttpConnection.on_headers_complete"),
    ("indexer/indexer.py", "Indexer.run"),
}
STORE, INDEX, FIND = ("receive", "check", "store"), ("index",), ("ask", "find")
EVENT = {"email": "diego@chefhero.com", "environment": "test", "component": "orders", "message": "the buyer", "data": 7}

Place = tuple[str, str]


def places(*parts: str) -> list[Place]:
    """The first function of each row of these parts of the table."""
    found, part = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"\| \*\*(\w+)\*\* \|", line):
            part = heading[1]
        row = re.match(r"\|[^|]*\| `([\w/]+\.py)` \| `([\w.]+)`", line)
        if row and part in parts and row.groups() not in OUTSIDE:
            found.append((row[1], row[2]))
    return found


class Calls:
    """The functions of the package that were called, in the order of their first calls."""

    def __init__(self) -> None:
        self.places: dict[Place, None] = {}
        self._first: Place | None = None

    def begin(self, first: Place) -> None:
        """Forget all calls, and those that follow until this function is called: keys are read in the background."""
        self._first = first
        self.places.clear()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            place = (str(Path(code.co_filename).relative_to(PACKAGE)), code.co_qualname)
            if self._first in (None, place):
                self._first = None
                self.places.setdefault(place)

    def among(self, wanted: list[Place]) -> list[Place]:
        return [place for place in self.places if place in wanted]


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls, before = Calls(), (sys.getprofile(), threading.getprofile())
    sys.setprofile(calls)
    threading.setprofile(calls)
    yield calls
    sys.setprofile(before[0])
    threading.setprofile(before[1])


@contextmanager
def client(settings: Settings) -> Iterator[Callable[..., Any]]:
    with asyncio.Runner() as runner:
        conductor: Any = ASGIConductor(create_app(settings))
        runner.run(conductor.__aenter__())
        yield lambda *request, **options: runner.run(conductor.simulate_request(*request, **options))
        runner.run(conductor.__aexit__(None, None, None))


def test_an_event_passes_the_files_in_the_order_of_the_page(
    calls: Calls, settings: Settings, log: Any, run_indexer: Any
) -> None:
    with client(settings) as ask:
        with run_indexer():
            ask("POST", "/event", json=EVENT | {"message": "opens the connections"})
            log.wait_visible()  # otherwise the indexer may be in the middle of a step
            calls.begin(places(*STORE)[0])
            assert ask("POST", "/event", json=EVENT).status_code == 201
            assert places(*STORE) == calls.among(places(*STORE))
            log.wait_visible()
            assert places(*INDEX) == calls.among(places(*INDEX))
        ask("POST", "/event", json=EVENT)  # the index does not have it, so it is found in the tail
        calls.begin(places(*FIND)[0])
        assert len(ask("GET", "/event", params={"q": "message ct 'buyer'"}).json) == 2
        assert places(*FIND) == calls.among(places(*FIND))
