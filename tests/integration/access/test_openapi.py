"""The live service describes itself."""

from __future__ import annotations

from typing import Any


def test_the_description_and_its_page_need_no_key_and_nothing_else(world: Any) -> None:
    described, page = (world.service.ask("GET", path) for path in ("/openapi.json", "/docs"))

    assert (described.status, page.status) == (200, 200)
    assert described.json["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    assert "'none'" in page.headers["content-security-policy"]
