"""A browser that fails the test at the first error or breach of the page's policy, and one service for all tests."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.page import service as page_service

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")

# Breaches of the policy of scripts that run before the console is listened to are not missed.
WATCH = """
window.breaches = [];
addEventListener("securitypolicyviolation", (breach) =>
  window.breaches.push(`${breach.violatedDirective}: ${breach.blockedURI} ${breach.sample}`));
"""


expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def packages() -> None:
    """What the page is bundled from, and the checker of accessibility, lie in node_modules."""
    subprocess.run([Path(__file__).parent.parent.parent / ".ci" / "node"], check=True)


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """The module that makes services and events."""
    return page_service


@pytest.fixture(scope="session")
def running_service(
    world: ModuleType, new_database: Callable[[], AbstractContextManager[str]], elasticsearch_url: str
) -> Callable[[], AbstractContextManager[Any]]:
    """A context manager: a service with a database and indexes of its own, which is stopped in the end."""

    @contextmanager
    def run() -> Iterator[Any]:
        with ExitStack() as stack:
            dsn = stack.enter_context(new_database())
            service = world.Service(dsn, elasticsearch_url, f"test-{secrets.token_hex(4)}")
            stack.callback(service.remove_indexes)
            stack.callback(service.stop)
            service.start()
            yield service

    return run


@pytest.fixture(scope="module")
def make_service(running_service: Callable[[], AbstractContextManager[Any]]) -> Iterator[Callable[[], Any]]:
    """A factory of services, which are stopped at the end of the module: those that run take the processor."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running_service())


@pytest.fixture(scope="session")
def service(running_service: Callable[[], AbstractContextManager[Any]], world: ModuleType) -> Iterator[Any]:
    """A service with a day of a shop and lines of this machine's logs; tests may add events, and leave the others."""
    with running_service() as service:
        service.fill(world.day(1500) + world.machine())
        service.wait_for_index()
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: while Playwright is open, an event loop runs, and other modules start their own."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    assert path, "these tests need Chromium: run .ci/browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Screen:
    """One tab, and everything in it that went wrong."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.expected: list[str] = []
        page.add_init_script(WATCH)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def open(self, address: str = "") -> Page:
        """Open the page, and wait until it has answered."""
        self.page.goto(f"{self.url}/{address}")
        self.page.wait_for_selector(".row time, .state, .fault-line, .around .centre, dialog[open]")
        return self.page

    def expect_errors(self, *patterns: str) -> None:
        """Say which lines on the console belong to the test; the browser writes one for each answer from 400 on."""
        self.expected += patterns

    def check(self) -> None:
        breaches = [] if self.page.is_closed() else self.page.evaluate("window.breaches ?? []")
        assert breaches == []
        assert [line for line in self.errors if not any(re.search(one, line) for one in self.expected)] == []


@pytest.fixture
def make_screen(browser: Browser) -> Iterator[Callable[..., Screen]]:
    """A factory of tabs: ``make_screen(url, viewport={…}, color_scheme="dark")``."""
    screens: list[Screen] = []

    def make(url: str, **options: Any) -> Screen:
        settings = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"} | options
        context = browser.new_context(**settings)
        context.set_default_timeout(20_000)
        screens.append(Screen(context.new_page(), url))
        return screens[-1]

    yield make
    try:
        for screen in screens:
            screen.check()
    finally:
        for screen in screens:
            screen.page.context.close()


@pytest.fixture
def screen(make_screen: Callable[..., Screen], service: Any) -> Screen:
    return make_screen(service.url)
