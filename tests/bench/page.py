"""Measure what a person waits for at the page: ``make bench-page``.

`eventsvc dev` runs all servers on this machine, and Chromium runs on it too. Each visit has an empty cache. Prints a
table in Markdown for docs/page.md. With ``--beside``, visits the page of a service that runs already and a page of
another program in turns, and prints what both take until their first events show.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from eventsvc.log.connection import connect
from tests.bench import generate
from tests.bench.service import running_dev, wait_for_the_index
from tests.report import replace_block

COUNT = 100_000
VISITS = 9
TYPED = "environment eq 'production' AND message ct 'buyer'"
SECONDS = 5.0  # of scrolling
_FLAGS = ["--no-sandbox", "--disable-gpu"]
_ROW = ".row time"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Runs before the scripts of the page. Notes when the first event shows, and when the editor takes text.
_WATCH = """
window.measured = {};
new MutationObserver(() => {
  if (!measured.events && document.querySelector(SHOWS)) measured.events = performance.now();
  if (!measured.editor && document.querySelector("query-editor")?.shadowRoot?.querySelector(".cm-content"))
    measured.editor = performance.now();
}).observe(document, {childList: true, subtree: true});
"""
_LOADED = """() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime, ...measured,
  bytes: performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
    .filter((entry) => !entry.name.includes("/event")).reduce((sum, entry) => sum + entry.encodedBodySize, 0),
})"""
# From the key that goes down until the text has its colours, and until the next frame is about to be painted.
_KEYS = """() => {
  window.keys = {coloured: [], painted: []};
  let down = 0;
  addEventListener("keydown", () => { down = performance.now(); }, true);
  new MutationObserver(() => {
    if (!down) return;
    const from = down;
    down = 0;
    keys.coloured.push(performance.now() - from);
    requestAnimationFrame(() => keys.painted.push(performance.now() - from));
  }).observe(document.querySelector("query-editor").shadowRoot, {childList: true, subtree: true, characterData: true});
}"""
_SCROLL = """async ([selector, seconds]) => {
  const list = document.querySelector(selector), frames = [], began = performance.now();
  let last = began;
  while (last - began < seconds * 1000) {
    list.scrollTop += 60;
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames;
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="of events")
    parser.add_argument("--report", type=Path, help="the page whose table is to be written")
    parser.add_argument("--url", default="http://127.0.0.1:8000/?last=7d", help="with --beside: our page")
    parser.add_argument("--beside", help="a page of another program, which has the same events")
    parser.add_argument("--shows", default="tr", help="with --beside: selector of an event on that page")
    options = parser.parse_args()
    browser_path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        sys.exit("this needs Chromium: run .ci/browser")
    if options.beside:
        _compare(browser_path, {options.url: _ROW, options.beside: options.shows})
        return
    with running_dev() as (dev, variables), sync_playwright() as playwright:
        connection = connect(variables["EVENTSVC_DATABASE_URL"])
        generate.fill(connection, options.count)
        connection.close()
        wait_for_the_index(dev)
        browser = playwright.chromium.launch(executable_path=browser_path, args=_FLAGS)
        what = f"{os.cpu_count()} cores, {options.count:,} events, all servers and Chromium on one machine"
        lines = [
            f"`make bench-page`, {time.strftime('%Y-%m-%d')}, {what}:",
            "",
            "| what | median | 95th percentile | to reach |",
            "| --- | --- | --- | --- |",
            *_measure(browser, f"http://127.0.0.1:{dev.port}/?last=90d"),
        ]
        browser.close()
    print("\n".join(lines))
    if options.report:
        replace_block(options.report, "bench-page", "\n".join(lines))


def _compare(browser_path: str, pages: dict[str, str]) -> None:
    """Visit each page in turns, and print a table."""
    visits: dict[str, list[dict[str, float]]] = {url: [] for url in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=_FLAGS)
        for turn in range(VISITS + 1):
            for url, row in pages.items():
                visit = _visit(browser, url, row)
                if turn:  # the first warms up
                    visits[url].append(visit)
        browser.close()
    for url, seen in visits.items():
        print(
            f"\n{url}, {seen[0]['bytes'] / 1000:,.0f} KB\n\n"
            "| what | median | 95th percentile | |\n| --- | --- | --- | --- |"
        )
        print(_row("first contentful paint", [visit["paint"] for visit in seen], "ms", ""))
        print(_row("the first events show", [visit["events"] for visit in seen], "ms", ""))


def _measure(browser: Browser, url: str) -> Iterator[str]:
    _visit(browser, url)  # warms the service up
    visits = [_visit(browser, url) for _ in range(VISITS)]
    yield _row("first contentful paint", [visit["paint"] for visit in visits], "ms", "< 300 ms")
    yield _row("the query box takes text", [visit["editor"] for visit in visits], "ms", "< 700 ms")
    yield _row("the first events show", [visit["events"] for visit in visits], "ms", "< 700 ms")
    yield f"| loaded, compressed | {visits[0]['bytes'] / 1000:,.0f} KB | | ≤ 200 KB |"
    page = _open(browser, url)
    keys = _type(page)
    yield _row("from a keystroke to coloured text", keys["coloured"], "ms", "< 16 ms")
    yield _row("from a keystroke to the next frame", keys["painted"], "ms", "")
    page.context.close()
    page = _open(browser, url)
    frames = page.evaluate(_SCROLL, ["event-list", SECONDS])
    yield _row(
        f"between two frames while scrolling, {1000 * len(frames) / sum(frames):.0f} a second", frames, "ms", "60"
    )
    page.context.close()


def _row(what: str, times: list[float], unit: str, to_reach: str) -> str:
    high = sorted(times)[min(len(times) - 1, round(0.95 * len(times)))]
    return f"| {what} | {statistics.median(times):,.1f} {unit} | {high:,.1f} {unit} | {to_reach} |"


def _open(browser: Browser, url: str, row: str = _ROW) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.add_init_script(f"const SHOWS = {json.dumps(row)};{_WATCH}")
    page.goto(url)
    wanted = "measured.events && measured.editor" if row == _ROW else "measured.events"
    while not page.evaluate(wanted):  # wait_for_function breaks the policy of the page
        page.wait_for_timeout(20)
    return page


def _visit(browser: Browser, url: str, row: str = _ROW) -> dict[str, float]:
    page = _open(browser, url, row)
    loaded: dict[str, float] = page.evaluate(_LOADED)
    page.context.close()
    return loaded


def _type(page: Page) -> dict[str, Any]:
    page.keyboard.press("/")
    page.evaluate(_KEYS)
    page.keyboard.type(TYPED, delay=80)
    page.wait_for_timeout(200)
    keys: dict[str, Any] = page.evaluate("keys")
    return keys


if __name__ == "__main__":
    main()
