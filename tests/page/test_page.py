"""People search, look and follow: what the page does, against the real service."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import expect


def test_the_newest_events_are_shown_with_counts(screen: Any) -> None:
    page = screen.open()

    expect(page.locator(".status .count")).to_contain_text(re.compile("1,[67]"))
    expect(page.locator(".row time").first).to_be_visible()
    expect(page.get_by_role("region", name="component").locator("li .name").first).to_have_text("orders")
    expect(page.locator("time-chart canvas")).to_be_visible()


def test_a_query_is_coloured_run_and_kept_in_the_address(screen: Any) -> None:
    screen.expect_errors("status of 400")  # what is half written is no query yet
    page = screen.open()
    page.keyboard.press("/")
    page.keyboard.type("message ct 'paid'")

    expect(page.locator("query-editor .t-field")).to_have_text("message")
    expect(page.locator("query-editor .t-string")).to_have_text("'paid'")
    page.keyboard.press("Enter")

    expect(page.locator(".row mark").first).to_have_text("paid")
    assert "q=message+ct+%27paid%27" in page.url
    page.reload()
    expect(page.locator(".row mark").first).to_have_text("paid")
    page.go_back()
    expect(page.locator(".pills")).to_have_count(0)


def test_the_servers_error_stands_in_its_place_and_its_hint_is_one_key_away(screen: Any) -> None:
    screen.expect_errors("status of 400")
    page = screen.open()
    page.keyboard.press("/")
    page.keyboard.type("message = 'paid' ")

    expect(page.locator(".fault-line .reason")).to_contain_text("unexpected =")
    expect(page.locator("query-editor .fault")).to_have_text("=")
    expect(page.locator(".fault-line .hint")).to_have_text("write eq")
    page.keyboard.press("Tab")
    expect(page.locator("query-editor .cm-content")).to_have_text("message eq 'paid' ")
    expect(page.locator(".fault-line")).to_have_count(0)


def test_completion_offers_fields_operators_and_values(screen: Any) -> None:
    screen.expect_errors("status of 400")
    page = screen.open()
    options = page.locator("query-editor .cm-tooltip-autocomplete li")
    page.keyboard.press("/")
    page.keyboard.type("comp")
    expect(options.first).to_contain_text("component")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+ ")
    expect(options.first).to_contain_text("eq")
    page.keyboard.type("eq ")
    page.keyboard.press("Control+ ")
    expect(options.filter(has_text="billing")).to_be_visible()
    page.keyboard.type("bil")
    expect(options.first).to_contain_text("billing")
    page.keyboard.press("Enter")

    expect(page.locator("query-editor .cm-content")).to_have_text("component eq 'billing'")


def test_facets_include_exclude_and_take_back(screen: Any) -> None:
    page = screen.open()
    component = page.get_by_role("region", name="component")
    query = page.locator("query-editor .cm-content")

    component.get_by_role("button", name="orders").first.click()
    expect(query).to_have_text("component eq 'orders'")
    expect(page.locator(".row .c-component").first).to_have_text("orders")
    component.get_by_role("button", name="mail").first.click()
    expect(query).to_have_text("component in ('orders', 'mail')")
    component.get_by_role("button", name="mail").first.click()
    expect(query).to_have_text("component eq 'orders'")
    component.get_by_role("button", name="web").first.click(modifiers=["Alt"])
    expect(query).to_have_text("component eq 'orders' AND component ne 'web'")
    component.get_by_role("button", name="orders").first.click()
    expect(query).to_have_text("component ne 'web'")


def test_paths_in_data_are_completed_counted_and_stacked(screen: Any) -> None:
    screen.expect_errors("status of 400")
    page = screen.open()
    page.get_by_label("Path in data whose values").fill("order.total")
    page.get_by_role("button", name="Count", exact=True).click()
    total = page.get_by_role("region", name="data.order.total")
    expect(total.locator(".name", has_text="99.5")).to_be_visible()
    total.get_by_label("Stack the histogram by data.order.total").click()
    expect(total.locator(".amount.series-0")).to_have_count(1)
    total.get_by_role("button", name="99.5").first.click()
    expect(page.locator("query-editor .cm-content")).to_have_text("data.order.total eq 99.5")
    page.keyboard.press("/")
    page.keyboard.type(" AND data.ho")

    expect(page.locator("query-editor .cm-tooltip-autocomplete li").first).to_contain_text("data.host")


def test_the_fields_of_the_events_at_hand_are_offered(screen: Any) -> None:
    page = screen.open("?q=data.level eq 'error'")
    offered = page.get_by_role("button", name="Count the values of data.host")
    offered.click()

    expect(page.get_by_role("region", name="data.host").locator(".name", has_text="web-1")).to_be_visible()
    expect(offered).to_have_count(0)


def test_levels_are_seen_at_once_and_errors_are_red(screen: Any, service: Any) -> None:
    page = screen.open("?q=component eq 'orders'")
    level = page.get_by_role("region", name="data.level")
    for name, colour in (("info", 0), ("warning", 1), ("error", 5)):
        expect(level.locator("li", has_text=name).locator(f".amount.series-{colour}")).to_have_count(1)
    level.get_by_role("button", name="error").first.click()
    expect(page.locator(".status .count")).to_have_text("125 events")
    expect(page.locator(".row .rail:not(.series-5)")).to_have_count(0)
    expect(page.locator(".row .rail").first).to_have_attribute("title", "error")
    page.goto(f"{screen.url}/?q=data.level eq 'error'&by=component")
    level.get_by_label("Stack the histogram by data.level").click()
    expect(page.locator(".row .rail.series-5[title=error]").first).to_be_visible()

    service.send(component="without", message="no level", data={})
    page.goto(f"{screen.url}/?q=component eq 'without'")
    expect(page.locator(".row .c-message")).to_have_text(["no level"])
    expect(page.get_by_role("region", name="email").locator("li")).to_have_count(1)
    expect(level).to_have_count(0)


def test_words_that_are_no_query_are_looked_for(screen: Any) -> None:
    """While they are written, the service is not asked whether they are a query: no error on the console."""
    page = screen.open()
    query = page.locator("query-editor .cm-content")
    for typed, meant in (("diego@chefhero.com", "'diego@chefhero.com'"), ("mail BOUNCED:", "'mail' AND 'BOUNCED:'")):
        page.keyboard.press("/")
        page.keyboard.press("Control+a")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        expect(query).to_have_text(meant)
        expect(page.locator(".row mark").first).to_be_visible()
        page.locator("event-list").focus()

    page.go_back()
    page.get_by_role("button", name="Timeline of this person").click()
    expect(page.locator(".person")).to_contain_text("Timeline of diego@chefhero.com across")
    expect(query).to_have_text("email eq 'diego@chefhero.com'")


def test_a_link_may_hold_plain_words(screen: Any) -> None:
    """So that a browser can be told to search here."""
    page = screen.open("?q=mail+bounced:")

    expect(page.locator("query-editor .cm-content")).to_have_text("'mail' AND 'bounced:'")
    expect(page.locator(".row mark").first).to_be_visible()


def test_strings_are_found_anywhere(screen: Any) -> None:
    page = screen.open("?q='price' AND 'checkout'")

    expect(page.locator(".pill .v").first).to_have_text("price")
    expect(page.locator(".row mark").first).to_be_visible()


def test_pills_are_the_same_query_as_the_text(screen: Any) -> None:
    page = screen.open("?q=((environment eq 'production') AND (component eq 'orders' OR component eq 'mail'))")
    pills = page.locator(".pill")
    expect(pills).to_have_count(2)

    pills.first.get_by_role("button", name="Turn round").click()
    expect(page.locator("query-editor .cm-content")).to_contain_text("environment ne 'production' AND (component")
    pills.first.locator(".text").click()
    page.get_by_label("Condition", exact=True).fill("environment eq 'staging'")
    page.keyboard.press("Enter")
    expect(page.locator(".row .c-environment").first).to_have_text("staging")
    pills.last.get_by_role("button", name="Remove").click()
    expect(page.locator("query-editor .cm-content")).to_have_text("environment eq 'staging'")


def test_a_range_is_dragged_on_the_histogram_and_reset(screen: Any) -> None:
    page = screen.open()
    box = page.locator("time-chart .u-over").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    expect(page.locator(".chart-tip")).to_contain_text("event")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    page.mouse.up()

    expect(page.locator(".range")).to_contain_text("\N{EN DASH}")
    assert "from=" in page.url
    page.get_by_role("button", name="Reset zoom", exact=True).click()
    expect(page.locator(".range")).to_have_text("Last 24 hours")


def test_a_week_is_counted_by_the_hour_and_its_rows_say_the_day(make_screen: Callable[..., Any], service: Any) -> None:
    page = make_screen(service.url, viewport={"width": 860, "height": 700}).open("?last=7d")
    expect(page.locator("time-chart canvas")).to_be_visible()
    assert 24 * 7 <= page.locator("time-chart").evaluate("chart => chart.times.length")
    expect(page.locator(".row .date").first).to_be_visible()

    page.goto(f"{service.url}/?from=2001-01-01T00:00:00Z&to=2001-01-01T12:00:00Z&tz=utc")
    expect(page.locator("event-list.one-day")).to_have_count(1)


def test_a_range_is_chosen_in_the_zone_of_the_viewer_or_in_utc(make_screen: Callable[..., Any], service: Any) -> None:
    page = make_screen(service.url, timezone_id="Asia/Tokyo").open()
    page.locator(".range").click()
    page.get_by_role("button", name="Last 4 hours").click()
    expect(page.locator(".range")).to_have_text("Last 4 hours")
    expect(page.locator(".pop:popover-open")).to_have_count(0)
    local = page.locator(".row time").first.text_content()
    page.locator(".range").click()
    page.get_by_label("UTC").check()

    expect(page.locator(".row time").first).not_to_have_text(local or "")
    assert "tz=utc" in page.url


def test_events_are_ordered_and_counted_by_when_they_happened(screen: Any, service: Any) -> None:
    """A late event stands where it happened, with that time; completion knows the field."""
    moment = datetime.now(UTC) - timedelta(hours=3)
    service.send(component="late", message="late", occurredAt=moment.isoformat())
    service.send(component="late", message="at once")
    page = screen.open("?q=component+eq+'late'")
    messages = page.locator(".row .c-message")
    expect(messages).to_have_text(["at once", "late"])
    page.locator(".range").click()
    page.get_by_label("when they happened").check()

    expect(page.locator(".row time").last).to_have_attribute("datetime", re.compile(f"^{moment:%Y-%m-%dT%H:%M}"))
    assert "time=occurredAt" in page.url
    page.get_by_role("button", name="Last hour").click()
    expect(messages).to_have_text(["at once"])


def test_an_event_opens_whole_and_its_data_goes_into_the_query(screen: Any) -> None:
    page = screen.open("?q=message ct 'no price'")
    page.locator(".row").first.click()
    panel = page.locator(".detail")
    expect(panel.locator(".trace .frame").first).to_contain_text("Pricing.java:118")
    panel.get_by_role("button", name="Only data.level eq 'error'").click()
    expect(page.locator("query-editor .cm-content")).to_contain_text("AND data.level eq 'error'")
    panel.get_by_role("button", name="Show column data.host").click()

    expect(page.locator(".row .c-data").first).to_contain_text("web-")
    assert "event=" in page.url


def test_lines_of_real_logs_are_shown_as_they_are(screen: Any, world: Any) -> None:
    lines = [event["message"] for event in world.machine()]
    page = screen.open("?q=component+eq+'machine'")
    expect(page.locator(".status .count")).to_have_text(f"{len(lines)} events")
    expect(page.locator(".row").nth(9)).to_be_visible()
    shown = page.locator(".row .c-message").all_text_contents()[:10]

    assert {" ".join(text.split()) for text in shown} <= {" ".join(text[:2000].split()) for text in lines}


def test_terminal_colours_become_colours(screen: Any) -> None:
    page = screen.open("?q=message ct 'checkout of basket'")

    expect(page.locator(".row .ansi-red").first).to_have_text("ERROR")
    assert "\x1b" not in (page.locator(".row").first.text_content() or "")


def test_neighbours_of_an_event_are_shown_and_go_on(screen: Any) -> None:
    page = screen.open("?q=component eq 'billing'&last=all")
    page.locator(".row").nth(30).click()
    expect(page.locator(".detail .content")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".detail")).to_have_count(0)
    page.keyboard.press("c")
    around = page.locator(".around")
    expect(around.locator(".centre")).to_have_count(1)
    expect(around.locator(".row")).to_have_count(41)
    around.get_by_role("button", name="Earlier").click()
    expect(around.locator(".row")).to_have_count(61)
    around.get_by_role("button", name="same component").click()
    expect(around.locator(".row .c-component", has_not_text="billing")).to_have_count(0)
    page.keyboard.press("Escape")

    expect(around).to_have_count(0)


def test_a_click_on_an_e_mail_shows_that_persons_timeline(screen: Any) -> None:
    page = screen.open()
    page.locator(".row .c-email button", has_text="maria").first.click()

    expect(page.locator(".person")).to_contain_text("Timeline of maria@chefhero.com across")
    expect(page.locator(".row .gap").first).to_contain_text("+")
    expect(page.locator(".row .c-email", has_not_text="maria@")).to_have_count(0)


def test_the_keyboard_does_everything(screen: Any) -> None:
    page = screen.open()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(".row.chosen")).to_have_attribute("aria-rowindex", "3")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator(".detail .content")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator(".row.opened")).to_have_attribute("aria-rowindex", "3")
    page.keyboard.press("Escape")
    expect(page.locator(".detail")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.locator("dialog#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog#help")).to_be_hidden()
    page.keyboard.press("t")
    expect(page.get_by_role("button", name="Last 24 hours").last).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".range")).to_have_text("Last 4 hours")


def test_every_answer_says_where_it_comes_from(screen: Any) -> None:
    page = screen.open()
    fresh = page.locator(".fresh")
    expect(fresh).to_contain_text("log")
    expect(fresh).to_have_attribute("title", re.compile("PostgreSQL, because this is faster; .*the index"))

    page = screen.open("?q=environment eq 'production'")
    fresh = page.locator(".fresh")
    expect(fresh).to_contain_text("tail")
    expect(fresh).to_have_attribute("title", re.compile("Elasticsearch, and PostgreSQL for the newest; .*the index"))
