"""What one person shows to another: frozen links, and views that are kept on the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect


def test_a_frozen_link_shows_the_same_events_to_everybody_and_leads_back_to_now(
    screen: Any, make_screen: Callable[..., Any], service: Any
) -> None:
    for message in ("one", "two"):
        service.send(component="frozen", message=message)
    page = screen.open("?q=component eq 'frozen' AND createdAt gte 'now-1h'")
    expect(page.locator(".row .c-message")).to_have_text(["two", "one"])
    page.get_by_role("button", name="Freeze this link").click()
    expect(page.locator(".frozen")).to_contain_text("as of seq 1,")
    service.send(component="frozen", message="three")

    colleague = make_screen(service.url, timezone_id="Asia/Tokyo").open(page.url.removeprefix(f"{service.url}/"))
    expect(colleague.locator(".frozen")).to_have_text(page.locator(".frozen").text_content() or "")
    for one in (page, colleague):
        one.reload()
        expect(one.locator(".row .c-message")).to_have_text(["two", "one"])
        expect(one.locator(".status .count")).to_have_text("2 events")
    assert "now" not in colleague.url
    colleague.get_by_role("button", name="Back to now").click()
    expect(colleague.locator(".row .c-message")).to_have_text(["three", "two", "one"])
    expect(colleague.locator(".frozen")).to_have_count(0)
