"""The pictures of the documents; ``make pictures`` puts them into docs/pictures, every other run only takes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

WIDE, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 760}
INCIDENT = (
    "?q=environment eq 'production' AND data.level eq 'error'&last=4h&by=data.host&cols=component,data.host,message"
)
PICTURES = {
    "light": (WIDE, "light", ""),
    "dark": (WIDE, "dark", "?by=component"),
    "incident": (WIDE, "dark", INCIDENT),
    "phone": (PHONE, "light", ""),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(make_screen: Callable[..., Any], shop: Any, tmp_path: Path, name: str) -> None:
    size, scheme, address = PICTURES[name]
    page = make_screen(shop.url, viewport=size, color_scheme=scheme).open(address)
    expect(page.locator("time-chart canvas")).to_be_visible()
    expect(page.locator(".facet .muted", has_text="…")).to_have_count(0)
    expect(page.locator(".paths button").first).to_be_attached()
    if name == "incident":
        page.locator(".row", has_text="no price").first.click()
        expect(page.locator(".detail .content")).to_be_visible()
    path = Path(os.environ.get("PICTURES") or tmp_path) / f"{name}.png"

    page.screenshot(path=path, animations="disabled")

    assert path.stat().st_size > 20_000


@pytest.fixture(scope="module")
def shop(make_service: Callable[..., Any], world: Any) -> Any:
    """A service with nothing but a day of a shop."""
    service = make_service()
    service.fill(world.day(3000))
    service.wait_for_index()
    return service
