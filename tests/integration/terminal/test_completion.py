"""What the shell offers after a Tab, asked in the way in which bash asks, against a real service."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest


def _offers(url: str, *words: str) -> list[str]:
    """What is offered for the last word."""
    asked = {"_EVENTSVC_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "eventsvc"]
    environment = os.environ | asked | {"EVENTSVC_URL": url}
    # An answer that does not come is waited for a second, a usual request a minute.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(filter(None, done.stdout.split("\n")))


def _until_offered(expected: list[str], url: str, *words: str) -> None:
    """A service on a busy machine may need longer for an answer than a completion waits: ask again."""
    for _ in range(30):
        if (offered := _offers(url, *words)) == expected:
            return
    assert offered == expected


def test_fields_operators_and_values_are_offered_and_nothing_that_the_shell_obeys(command: Any, service: Any) -> None:
    event = {"message": "m", "email": "a@b.co", "environment": "test", "data": {"ordered": {"amount": 300}}}
    components = ("orders", "order book", "other", "or$(reboot)", "or'", "or`id`")
    lines = [json.dumps(event | {"component": component}) for component in components]
    assert command("log", "--json", text="\n".join(lines)).returncode == 0

    _until_offered(
        ["email eq 'a@b.co' AND data.ordered.amount"],
        service.url,
        "eventsvc",
        "tail",
        "\"email eq 'a@b.co' AND data.ordered.",
    )
    _until_offered(
        ["component in ('order book'", "component in ('orders'", "component in ('other'"],
        service.url,
        "eventsvc",
        "search",
        '"component in (',
    )
    _until_offered(
        ["NOT component eq 'order book'", "NOT component eq 'orders'"],
        service.url,
        "eventsvc",
        "stats",
        "\"NOT component eq 'ord",
    )
    _until_offered(["data.ordered.amount eq 300"], service.url, "eventsvc", "search", '"data.ordered.amount eq ')
    _until_offered(
        ["id,data.ordered", "id,data.ordered.amount"],
        "",
        "eventsvc",
        "search",
        "--url",
        service.url,
        "--fields",
        "id,data.",
    )


@pytest.mark.parametrize("listens", [False, True])
def test_a_service_that_is_away_or_hangs_is_passed_over_in_silence(*, listens: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert _offers(url, "eventsvc", "search", '"component eq ') == []
