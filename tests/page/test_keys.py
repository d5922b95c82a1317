"""A service that asks for keys: the page asks for one, and shows what the key may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def guarded(make_service: Callable[..., Any], world: Any) -> Any:
    service = make_service()
    service.fill(world.day(300))
    service.wait_for_index()
    service.admin("keys", "create", "somebody-else", "--right", "read")
    world.wait_until(lambda: service.ask("GET", "/event?limit=1")[0] == 401, "keys are asked for")
    return service


@pytest.fixture
def page(make_screen: Callable[..., Any], guarded: Any) -> Any:
    screen = make_screen(guarded.url)
    screen.expect_errors("status of 401", "status of 403")
    return screen.open()


def _give(page: Any, key: str) -> None:
    page.get_by_role("textbox", name="Key").fill(key)
    page.get_by_role("button", name="Use it", exact=True).click()


def test_the_page_asks_for_a_key_once_and_keeps_it_in_this_tab_alone(page: Any, guarded: Any) -> None:
    key = guarded.key("reader", "--right", "read")
    expect(page.locator("dialog#key")).to_be_visible()
    _give(page, "ev_wrong")
    expect(page.locator("dialog#key .problem")).to_contain_text("did not accept")
    _give(page, key)
    expect(page.locator(".row").first).to_be_visible()
    page.reload()
    expect(page.locator(".row").first).to_be_visible()

    assert key not in page.url
    assert key == page.evaluate("sessionStorage.getItem('eventsvc.key')")
    assert key not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    page.keyboard.press("l")
    expect(page.locator(".live-strip.live")).to_be_visible()
    page.get_by_label("Menu").click()
    page.get_by_role("button", name="Forget the key", exact=True).click()
    expect(page.locator("dialog#key")).to_be_visible()


def test_a_restricted_key_sees_only_what_it_may(page: Any, guarded: Any) -> None:
    _give(page, guarded.key("mail", "--right", "read", "--where", "component eq 'mail'"))

    expect(page.get_by_role("region", name="component").locator("li .name")).to_have_text(["mail"])
    expect(page.locator(".row .c-component", has_not_text="mail")).to_have_count(0)


def test_a_key_without_the_right_says_so_and_another_can_be_given(page: Any, guarded: Any) -> None:
    _give(page, guarded.key("writer", "--right", "write"))
    expect(page.locator(".state")).to_contain_text("this needs the right read")

    page.get_by_role("button", name="Use another key", exact=True).click()
    _give(page, guarded.key("second", "--right", "read"))

    expect(page.locator(".row").first).to_be_visible()


def test_a_shared_view_is_there_for_others_who_may_not_remove_it(
    page: Any, make_screen: Callable[..., Any], guarded: Any
) -> None:
    _give(page, guarded.key("team", "--right", "read", "--right", "write"))
    expect(page.locator(".row").first).to_be_visible()
    page.goto(f"{guarded.url}/?q=environment eq 'production'")
    page.get_by_role("button", name="Views", exact=True).click()
    page.get_by_label("Name of this view").fill("Production")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.locator(".views li")).to_contain_text("by team")

    screen = make_screen(guarded.url)
    screen.expect_errors("status of 401", "status of 403")
    other = screen.open()
    _give(other, guarded.key("colleague", "--right", "read"))
    other.get_by_role("button", name="Views", exact=True).click()
    other.get_by_role("link", name="Production").click()
    expect(other.locator("query-editor .cm-content")).to_have_text("environment eq 'production'")
    expect(other.locator(".row").first).to_be_visible()
    for one in (page, other):
        one.on("dialog", lambda dialog: dialog.accept())
    other.get_by_role("button", name="Views", exact=True).click()
    other.get_by_label("Delete the shared view Production").click()
    expect(other.locator("#views .problem")).to_contain_text("this needs the right write")
    page.get_by_label("Delete the shared view Production").click()
    expect(page.locator("#views")).to_contain_text("The service keeps them for everybody")
