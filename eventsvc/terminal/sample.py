"""``eventsvc sample``: store lifelike events, for a first look at the service."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsvc.terminal.options import Data, Key, Url, service
from eventsvc.terminal.service import Service

if TYPE_CHECKING:
    import random  # loaded late: it loads OpenSSL

_MARK = "eventsvc-sample"  # the value of data.sample in every sample event
_ALL = f"data.sample eq '{_MARK}'"
_BATCH = 1000
COUNT = 10_000
STORED = "sample events are stored; `eventsvc sample --remove` takes them away"
_PEOPLE = ("diego", "amina", "wei", "sofia", "lars", "priya", "tomas", "yuki", "fatima", "noah", "chloe", "mateo")
_HOSTS = ("chefhero.com", "example.com", "example.org")
_CARDS = ("visa", "mastercard", "amex")

# (component, message, level, share). The data of the event fills the places in braces.
_KINDS = (
    ("orders", "the buyer #{buyer} has placed an order of {amount} EUR", "info", 30),
    ("orders", "order {order} is shipped", "info", 20),
    ("billing", "payment of {amount} EUR by {card} accepted for order {order}", "info", 22),
    ("billing", "payment of {amount} EUR by {card} declined: insufficient funds", "warning", 3),
    ("billing", "timeout after {ms} ms while charging {card} for order {order}", "error", 1),
    ("auth", "login from {ip}", "info", 25),
    ("auth", "wrong password from {ip}, attempt {attempt}", "warning", 4),
    ("web", "GET /order/{order} {status} in {ms} ms", "info", 40),
    ("web", "unhandled KeyError: 'buyer' in /order/{order}", "error", 1),
    ("mail", "receipt for order {order} sent", "info", 15),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: eventsvc sample --events 10000")(sample)


def sample(
    *,
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = COUNT,
    remove: Annotated[bool, typer.Option("--remove", help="Erase all sample events.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Store lifelike events of the last week, which data.sample marks, or erase these events."""
    with service(url, key, data) as opened:
        if remove:
            body = {"q": _ALL, "reason": "sample events are no longer needed"}
            answer = opened.request(
                "POST", "/erasure", body=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
            )
            found = json.loads(answer.data)
            print(f"{found['count']:,} sample events are {'erased' if found['state'] == 'done' else 'being erased'}")
            return
        for stored in store(opened, events, seed):
            if sys.stderr.isatty():
                print(f"\r{stored:,} of {events:,}", end="", file=sys.stderr)
        print(f"\r{events:,} {STORED}" if sys.stderr.isatty() else f"{events:,} {STORED}", file=sys.stderr)


def are_there(opened: Service) -> bool:
    """Tell whether sample events are stored."""
    return bool(opened.get("/event", {"q": _ALL, "limit": "1"}))


def make(events: int = COUNT, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Make sample events, as ``POST /event`` takes them."""
    import random

    return generate(events, random.Random(seed), dt.datetime.now(dt.UTC))  # noqa: S311  (no secrets)


def store(opened: Service, events: int, seed: int) -> Iterator[int]:
    """Store sample events batch by batch; after each batch, give the number of stored events."""
    made = make(events, seed)
    stored = 0
    while some := list(islice(made, _BATCH)):
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in some)
        opened.request("POST", "/event", body=lines, headers={"Content-Type": "application/x-ndjson"})
        stored += len(some)
        yield stored


def generate(count: int, chance: random.Random, now: dt.datetime) -> Iterator[dict[str, Any]]:
    """Make events of the last week, oldest first: more by day than by night, and one hour with many errors."""
    moments = sorted(_moment(chance) for _ in range(count))
    for ago in reversed(moments):
        yield _event(chance, now - dt.timedelta(seconds=ago), bad=_BAD_HOUR <= ago < _BAD_HOUR + 3600)


_WEEK, _DAY = 7 * 86_400.0, 86_400.0
_BAD_HOUR = 26 * 3600.0  # seconds ago


def _moment(chance: random.Random) -> float:
    """Draw the age of an event, in seconds. Noon has three times as many events as midnight."""
    while True:
        ago = chance.uniform(0.0, _WEEK)
        if chance.random() < 0.67 + 0.33 * math.cos(2 * math.pi * ago / _DAY):
            return ago


def _event(chance: random.Random, moment: dt.datetime, *, bad: bool) -> dict[str, Any]:
    weights = [share * (20 if bad and level == "error" else 1) for *_, level, share in _KINDS]
    component, text, level, _ = chance.choices(_KINDS, weights)[0]
    person = chance.choice(_PEOPLE)
    data = {
        "sample": _MARK,
        "level": level,
        "order": chance.randint(10_000, 99_999),
        "buyer": chance.randint(100_000, 999_999),
        "amount": round(chance.lognormvariate(3.5, 0.8), 2),
        "card": chance.choice(_CARDS),
        "ip": f"192.0.2.{chance.randint(1, 254)}",
        "attempt": chance.randint(1, 5),
        "status": chance.choices((200, 201, 304, 404), (80, 8, 8, 4))[0],
        "ms": round(chance.lognormvariate(4, 0.7)),
    }
    used = {"sample", "level", *(name for name in data if f"{{{name}}}" in text)}
    return {
        "occurredAt": moment.isoformat(timespec="milliseconds"),
        "email": f"{person}@{chance.choice(_HOSTS)}",
        "environment": chance.choices(("production", "staging"), (9, 1))[0],
        "component": component,
        "message": text.format(**data),
        "data": {name: value for name, value in data.items() if name in used},
    }
