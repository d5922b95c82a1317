"""The API in this process, over the real stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from falcon.testing import ASGIConductor

from eventsvc.app import create_app
from eventsvc.settings import Settings


class Api:
    """Asks the app, one request at a time."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._conductor: Any = ASGIConductor(create_app(settings))

    def __enter__(self) -> Self:
        self._runner.run(self._conductor.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._conductor.__aexit__(None, None, None))
        self._runner.close()

    def get(self, path: str, **params: str) -> Any:
        return self._runner.run(self._conductor.simulate_get(path, params=params))

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self._runner.run(self._conductor.simulate_post(path, json=body, headers=headers))

    def find(self, q: str = "", **params: str) -> list[str]:
        """The messages of the events that match, newest first."""
        found = self.get("/event", limit="1000", **({"q": q} if q else {}), **params)
        assert found.status_code == 200, found.text
        return [event["message"] for event in found.json]

    def erase(self, q: str, **more: Any) -> Any:
        return self.post("/erasure", {"q": q, "reason": "asked for", **more})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with Api(settings) as opened:
        yield opened


@pytest.fixture
def make_api(settings: Settings) -> Callable[..., Api]:
    return lambda **changes: Api(settings.model_copy(update=changes))
