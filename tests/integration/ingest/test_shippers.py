"""What the recipes of docs/shippers.md make of lines at the limits, sent to a service with their own settings."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

DOCUMENT = Path(__file__).parents[3] / "docs" / "shippers.md"
LONGEST = 8_191
SHORT = "Without a change of the records"  # tested in test_shapes.py
GOOD = "the buyer #123456 has placed an order"
ANSI = "\x1b[31mER\x1b[1mROR\x1b[0m"
LINES = {
    "good": GOOD,
    "9,000 characters": "begin " + "x" * 8_990 + " end",
    "900,000 characters": "begin " + "x" * 899_990 + " end",
    "empty": "",
    "NUL": "a\0b",
    "half a pair": "a\udcffb",
    "ANSI": ANSI,
    "1 MiB": "x" * 1024 * 1024,
}
SANITIZED = 5


@dataclass
class Sent:
    """A request as a shipper makes it."""

    path: str
    body: bytes
    headers: dict[str, str]


def read_recipe(name: str) -> str:
    """The indented lines below a heading."""
    _, _, section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {name}\n")
    section = section.partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))


def find(pattern: str, recipe: str) -> str:
    found = re.search(pattern, recipe)
    assert found is not None, f"the recipe has no {pattern}"
    return found[1]


def path_of(recipe: str) -> str:
    return "/" + find(r"/?(event\?[\w=&]+)", recipe)


def fields_of(recipe: str) -> dict[str, str]:
    """E-mail, environment and component, in whatever syntax the recipe gives them."""
    return {
        name: find(rf'\b{name}\\?"?(?:\s*=>\s*|\s*:\s*|\s+)\\?"?([\w@.]+)', recipe)
        for name in ("email", "environment", "component")
    }


def write(events: list[Any]) -> bytes:
    return json.dumps(events).encode()


def fluent_bit(recipe: str, lines: list[str]) -> list[Sent]:
    """Format json is an array; what the tail input adds is gone to data, which Lua leaves as an empty array."""
    assert find(r"Format\s+(\w+)", recipe) == "json"
    assert find(r"Json_date_format\s+(\w+)", recipe) == "iso8601"
    time = {find(r"Json_date_key\s+(\w+)", recipe): "2026-11-25T08:00:00.123456Z"}
    body = write([time | {"data": []} | fields_of(recipe) | {"message": line} for line in lines])
    headers = {"Content_Type": "application/json", "Content_Encoding": find(r"Compress\s+(\w+)", recipe)}
    return [Sent(path_of(recipe), gzip.compress(body), headers)]


def fluentd(recipe: str, lines: list[str]) -> list[Sent]:
    assert find(r"json_array (\w+)", recipe) == "true"
    time = {find(r"(\w+) \$\{time\.utc\.strftime", recipe): "2026-11-25T08:00:00.123456789Z"}
    body = write([fields_of(recipe) | {"message": line, "data": {"pid": 7}} | time for line in lines])
    return [Sent(path_of(recipe), body, {"Content_Type": "application/json"})]


def logstash(recipe: str, lines: list[str]) -> list[Sent]:
    assert find(r'format => "(\w+)"', recipe) == "json_batch"
    assert find(r"http_compression => (\w+)", recipe) == "true"
    data = {"host": "%{[host][name]}"}
    time = {find(r'"(\w+)" => "%\{@timestamp\}"', recipe): "2026-11-25T08:00:00.123Z"}
    body = write([fields_of(recipe) | {"message": line, "data": data} | time for line in lines])
    headers = {"Content_Type": "application/json", "Content_Encoding": "gzip"}
    return [Sent(path_of(recipe), gzip.compress(body), headers)]


def vector(recipe: str, lines: list[str]) -> list[Sent]:
    assert find(r'framing.method = "(\w+)"', recipe) == "newline_delimited"
    data = {"file": "/var/log/shop/a.log", "host": "h"}
    time = {find(r'"(\w+)": \.timestamp', recipe): "2026-11-25T08:00:00.123456789Z"}
    events = [fields_of(recipe) | {"message": line, "data": data} | time for line in lines]
    body = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    headers = {"Content_Type": "application/x-ndjson", "Content_Encoding": find(r'compression = "(\w+)"', recipe)}
    return [Sent(path_of(recipe), zstandard.compress(body), headers)]


def rsyslog(recipe: str, lines: list[str]) -> list[Sent]:
    """One request for each line: the recipe's own template, with its properties filled in."""
    template = find(r'string="((?:\\.|[^"\\])*)"', recipe).replace('\\"', '"')
    template = template.replace("%timereported:::date-rfc3339%", "2026-11-25T08:00:00.123456+00:00")
    kind = find(r'httpcontenttype="([^"]+)"', recipe)
    return [
        Sent(path_of(recipe), re.sub("%[^%]+%", "h", text).encode(), {"Content_Type": kind})
        for text in (template.replace("%msg:::json%", json.dumps(line)[1:-1]) for line in lines)
    ]


SHIPPERS: dict[str, Callable[[str, list[str]], list[Sent]]] = {
    "Fluent Bit": fluent_bit,
    "Fluentd": fluentd,
    "Logstash": logstash,
    "Vector": vector,
    "rsyslog": rsyslog,
}


def send(service: Any, name: str, lines: list[str]) -> list[Any]:
    requests = SHIPPERS[name](read_recipe(name), lines)
    answers = [service.ask("POST", sent.path, sent.body, **sent.headers) for sent in requests]
    assert {answer.status for answer in answers} == {200}
    return [answer.json() for answer in answers]


@pytest.mark.parametrize("name", SHIPPERS)
def test_no_line_is_lost_by_its_text_or_by_its_neighbours(service: Any, name: str) -> None:
    """The answer is 200 throughout: all that shippers count as delivered."""
    reports = send(service, name, [*LINES.values(), GOOD])
    stored = service.rows("SELECT message, data->'sanitized' IS NOT NULL, email, environment, component FROM event")
    assert service.rows("SELECT count(*) FROM event WHERE occurred_at / 1000000000 <> 1795593600") == [(0,)]
    assert service.rows("SELECT count(*) FROM event WHERE occurred_at IS NULL") == [(0,)]
    messages = {message: changed for message, changed, *_ in stored}
    long = sorted(message for message in messages if message.startswith("begin xxx"))
    assert sum(report["rejected"] for report in reports) == 1
    assert sum(report["sanitized"] for report in reports) == SANITIZED
    assert len(stored) == len(LINES)
    assert [len(message) <= LONGEST and message.endswith("xxx end") for message in long] == [True, True]
    assert sorted(re.findall(r"of ([\d,]+) characters cut out", "".join(long))) == ["9,000", "900,000"]
    others = {message: changed for message, changed in messages.items() if message not in long}
    assert others == {GOOD: False, "(empty)": True, "a\ufffdb": True, ANSI: False}
    assert {row[2:] for row in stored} == {("ops@example.com", "production", "shop")}


@pytest.mark.parametrize("name", SHIPPERS)
def test_bytes_that_are_not_utf_8_are_replaced(service: Any, name: str) -> None:
    """Programs that write Latin-1: shippers pass the byte on as it is."""
    (sent,) = SHIPPERS[name](read_recipe(name), ["caf@"])
    packing = sent.headers.pop("Content_Encoding", "")
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": zstandard.decompress,
        "": bytes,
    }
    plain = unpack[packing](sent.body)
    answer = service.ask("POST", sent.path, plain.replace(b"caf@", b"caf\xe9"), **sent.headers)
    assert (answer.status, answer.json()["sanitized"]) == (200, 1)
    assert service.rows("SELECT message FROM event") == [("caf\ufffd",)]


def test_every_recipe_is_tested() -> None:
    headings = re.findall(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [heading for heading in headings if read_recipe(heading)] == [SHORT, *SHIPPERS]
