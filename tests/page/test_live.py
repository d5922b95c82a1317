"""Live events, and a service that goes away and comes back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def own(make_service: Callable[..., Any], world: Any) -> Any:
    """A service that may be killed."""
    service = make_service()
    service.fill(world.day(300))
    service.wait_for_index()
    return service


def test_new_events_appear_by_themselves_once_each(make_screen: Callable[..., Any], own: Any) -> None:
    screen = make_screen(own.url)
    page = screen.open()
    page.keyboard.press("l")
    expect(page.locator(".live-strip")).to_contain_text("Live")
    expect(page.locator(".live-strip.live")).to_be_visible()

    for number in range(20):
        own.send(message=f"live number {number}")

    expect(page.locator(".row .c-message").first).to_have_text("live number 19")
    expect(page.locator(".row", has_text="live number")).to_have_count(20)
    expect(page.locator(".live-strip")).not_to_contain_text("0.0 events/s")


def test_live_events_are_those_of_the_query(make_screen: Callable[..., Any], own: Any) -> None:
    page = make_screen(own.url).open("?live=1&q=component eq 'mail'")
    expect(page.locator(".live-strip.live")).to_be_visible()

    own.send(message="not this one")
    own.send(message="this one", component="mail")

    expect(page.locator(".row .c-message").first).to_have_text("this one")
    expect(page.locator(".row", has_text="not this one")).to_have_count(0)


def test_pause_holds_events_back_and_shows_how_many(make_screen: Callable[..., Any], own: Any) -> None:
    page = make_screen(own.url).open("?live=1")
    expect(page.locator(".live-strip.live")).to_be_visible()
    page.get_by_role("button", name="Pause", exact=True).click()

    own.send(message="while paused")

    expect(page.locator(".live-strip")).to_contain_text("1 waiting")
    expect(page.locator(".row", has_text="while paused")).to_have_count(0)
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(page.locator(".row .c-message").first).to_have_text("while paused")


def test_after_a_loss_of_the_connection_nothing_is_missed(make_screen: Callable[..., Any], own: Any) -> None:
    screen = make_screen(own.url)
    screen.expect_errors(
        "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "status of 50", "ERR_CONNECTION_RESET", "ERR_EMPTY"
    )
    page = screen.open("?live=1")
    expect(page.locator(".live-strip.live")).to_be_visible()
    own.send(message="before the loss")
    expect(page.locator(".row .c-message").first).to_have_text("before the loss")

    own.stop("serve", how=signal.SIGTERM)
    expect(page.locator(".live-strip.lost")).to_be_visible()
    own.store(message="in between")
    own.start("serve")

    expect(page.locator(".live-strip")).to_contain_text("resumed, 1 caught up, 0 missed", timeout=20_000)
    expect(page.locator(".row .c-message").first).to_have_text("in between")
    expect(page.locator(".row", has_text="in between")).to_have_count(1)


def test_a_service_that_is_killed_is_said_to_be_away_and_found_again(make_screen: Callable[..., Any], own: Any) -> None:
    screen = make_screen(own.url)
    screen.expect_errors("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY", "status of 50")
    page = screen.open()
    own.stop("serve", how=signal.SIGKILL)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".toast.bad")).to_contain_text("does not answer")
    expect(page.locator(".row").first).to_be_visible()

    own.start("serve")

    expect(page.locator(".toast.bad")).to_have_count(0, timeout=20_000)
    expect(page.locator(".row").first).to_be_visible()
