"""Events for benchmarks: the same ones on every machine, because the seed is fixed.

``python -m tests.bench.generate DSN COUNT`` fills a migrated, empty log by COPY, evenly over the last 30 days.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect, transaction
from eventsvc.log.months import ensure_months

SEED = 20261123
DAYS = 30
_BATCH = 20_000

_COMPONENTS = ["orders", "billing", "shipping", "auth", "search", "mail", "gateway", "inventory"]
_ENVIRONMENTS = ["production"] * 8 + ["staging", "development"]
_VERBS = ["placed", "cancelled", "paid", "shipped", "returned", "viewed", "updated", "rejected"]
_THINGS = ["an order", "an invoice", "a parcel", "the basket", "a payment", "an address", "the profile"]
_TEXT = "the quick service took longer than expected while talking to its upstream and will try again soon"
_WORDS = _TEXT.split()


def generate(
    count: int, *, now: datetime, days: float = DAYS, seed: int = SEED, environments: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Make events, oldest first; about 60 % of them tell of a buyer.

    Args:
        count: how many events.
        now: the time of the last event.
        days: over how many days they are spread.
        seed: equal seeds give equal events.
        environments: the events have these environments in turn, so that each has an exact share; () for random ones.
    """
    numbers = random.Random(seed)
    begin = now - timedelta(days=days)
    for place in range(count):
        number = numbers.randrange(1_000_000)
        who = "buyer" if numbers.random() < 0.6 else "seller"
        tail = " ".join(numbers.choices(_WORDS, k=numbers.randrange(3, 14)))
        message = f"the {who} #{number} has {numbers.choice(_VERBS)} {numbers.choice(_THINGS)}: {tail}"
        yield {
            "id": str(uuid.UUID(int=numbers.getrandbits(128), version=4)),
            "created_at": begin + timedelta(days=days) * (place / count),
            "email": f"user{numbers.randrange(5000)}@chefhero.com",
            "environment": environments[place % len(environments)] if environments else numbers.choice(_ENVIRONMENTS),
            "component": numbers.choice(_COMPONENTS),
            "message": message,
            "data": {
                "order_id": number,
                "amount": round(numbers.random() * 1000, 2),
                "tags": numbers.sample(_WORDS, 2),
                "user": {"plan": numbers.choice(["free", "pro"]), "visits": numbers.randrange(100)},
            },
        }


def fill(
    connection: Connection, count: int, *, days: float = DAYS, seed: int = SEED, environments: Sequence[str] = ()
) -> None:
    """COPY so many events of the last days into the log; see ``generate``."""
    now = datetime.now(UTC).replace(microsecond=0)
    ensure_months(connection, (now - timedelta(days=days)).date(), now.date())
    batch: list[str] = []
    for event in generate(count, now=now, days=days, seed=seed, environments=environments):
        batch.append(_line(event))
        if len(batch) == _BATCH:
            _copy(connection, batch)
            batch.clear()
    _copy(connection, batch)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE event")


def _line(event: dict[str, Any]) -> str:
    at = event["created_at"].isoformat(timespec="milliseconds")
    data = orjson.dumps(event["data"]).decode().replace("\\", "\\\\")
    columns = ("email", "environment", "component", "message")
    return "\t".join((event["id"], at, *(event[column] for column in columns), data))


def _copy(connection: Connection, batch: list[str]) -> None:
    import io

    with transaction(connection) as cursor:
        cursor.copy_expert(
            "COPY event (id, created_at, email, environment, component, message, data) FROM STDIN",
            io.StringIO("\n".join(batch) + "\n" if batch else ""),
        )


if __name__ == "__main__":
    opened = connect(sys.argv[1])
    schema.migrate(opened)
    began = time.perf_counter()
    fill(opened, int(sys.argv[2]))
    print(f"{sys.argv[2]} events in {time.perf_counter() - began:.1f} s")
