"""What the shell offers after a Tab, asked in the way in which bash asks, against a real service."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any


def _ask(url: str, *words: str) -> subprocess.Popen[str]:
    """Ask what is offered for the last word."""
    asked = {"_EVENTSVC_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    environment = os.environ | asked | {"EVENTSVC_URL": url}
    command = [sys.executable, "-m", "eventsvc"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _offers(url: str, *words: str) -> list[str]:
    return _answer(_ask(url, *words))


def _answer(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return sorted(filter(None, out.split("\n")))


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


def test_a_service_that_is_away_or_hangs_is_passed_over_in_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = _ask(url, "eventsvc", "search", '"component eq ')
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(40)  # a completion waits for a second, other commands for a minute
            while connection.recv(4096):
                pass
        assert _answer(process) == []
    assert _offers(url, "eventsvc", "search", '"component eq ') == []
