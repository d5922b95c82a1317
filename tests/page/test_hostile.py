"""Events and addresses hold text of strangers: all of it stays text."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

ATTACKS = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    "\"><iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}${window.hit=1}",
    "</title></style></textarea><script>window.hit=1</script>",
    "\x1b[31m<b onmouseover=window.hit=1>red</b>\x1b]8;;javascript:window.hit=1\x07link\x1b]8;;\x07",
    "<!--?lit$1$--><a href='javascript:window.hit=1'>x</a>",
]


@pytest.fixture(scope="module")
def hostile(service: Any) -> str:
    """The query that finds events with an attack in each field."""
    for number, attack in enumerate(ATTACKS):
        name = f"hostile {number} {attack}"
        service.send(
            message=name,
            environment=name[:100],
            component=name[:100],
            email=f"o'{{{{{number}}}}}`${{x}}|&@example.com",
            data={
                attack: attack,
                "__proto__": {"hit": attack},
                "constructor": attack,
                "list": [attack, {attack: [attack]}],
            },
        )
    return "message sw 'hostile'"


def _never_hit(page: Any) -> None:
    assert page.evaluate("window.hit") is None
    assert (
        0
        == page.locator(
            "#app script, #app iframe, #app img[src], #app [onerror], #app [onload], #app [onmouseover]"
        ).count()
    )


def test_markup_in_every_field_stays_text(screen: Any, hostile: str) -> None:
    page = screen.open(f"?q={quote(hostile)}&cols=environment,component,email,message,data")
    expect(page.locator(".row")).to_have_count(len(ATTACKS))

    for index in range(len(ATTACKS)):
        page.locator(".row .c-message").nth(index).click()
        expect(page.locator(".detail .tree .leaf").first).to_be_visible()
        _never_hit(page)
    expect(page.get_by_role("region", name="component").locator("li")).to_have_count(len(ATTACKS))
    page.get_by_label("Stack the histogram by component").click()
    page.locator("time-chart .u-over").hover()
    _never_hit(page)
    assert 0 == page.locator("a[href^=javascript]").count()


def test_values_of_every_kind_go_into_the_query_and_find_their_event(screen: Any, hostile: str) -> None:
    page = screen.open(f"?q={quote(hostile)}")
    for index in range(len(ATTACKS)):
        page.locator(".row .c-message").nth(index).click()
        wanted = page.locator(".detail .message .block").text_content()
        page.get_by_label("Only this very message").click()
        expect(page.locator(".status .count")).to_have_text("1 event")
        assert wanted == page.locator(".detail .message .block").text_content()
        page.go_back()
        expect(page.locator(".row")).to_have_count(len(ATTACKS))


@pytest.mark.parametrize(
    "name",
    ["q", "last", "from", "to", "order", "by", "cols", "facets", "tz", "time", "event", "around", "same", "live"],
)
def test_markup_in_the_address_stays_text(screen: Any, name: str) -> None:
    screen.expect_errors("status of 400", "status of 404")
    for attack in ATTACKS[:4]:
        page = screen.open(f"?{name}={quote(attack)}")
        expect(page.locator(".brand")).to_be_visible()
        _never_hit(page)


def test_saved_views_cannot_run_anything(screen: Any) -> None:
    page = screen.open()
    views = [{"name": "<img src=x onerror=window.hit=1>", "address": "javascript:window.hit=1"}]
    kept = {"views": json.dumps(views), "queries": '{"not": "a list"}', "theme": "["}
    page.evaluate("kept => Object.entries(kept).forEach(([k, v]) => localStorage.setItem(`eventsvc.${k}`, v))", kept)
    page.reload()
    page.get_by_role("button", name="Views", exact=True).click()
    page.locator(".views a").click()

    _never_hit(page)
    assert page.url.startswith(screen.url)
