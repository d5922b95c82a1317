"""Throw random and mutated text at the parser: it may answer with an AST or a QueryError, with nothing else.

    python tests/fuzz/fuzz_parse.py [number of texts, 1,000,000 otherwise] [seed]

What it reads is also printed and read again, and compiled three ways. Prints how many texts were read and refused.
"""

# ruff: noqa: SIM905  (a list of a hundred quoted pieces reads worse)
from __future__ import annotations

import random
import sys
import time

from eventsvc.errors import QueryError
from eventsvc.query.mistakes import render_excerpt
from eventsvc.query.parse import LONGEST, parse
from eventsvc.query.render import render
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_predicate import to_predicate
from eventsvc.query.to_sql import to_sql

SEEDS = (
    "((email eq 'diego@chefhero.com') AND (createdAt gte '2018-1-1') AND (message ct 'buyer' ))",
    "NOT (environment ne \"production\" OR component in ('a', 'b', \"c\"))",
    "data.user.id eq 4711 AND data.'user id'.\"x\\\"y\" in (1, -2.5e3, 'a', null, true, false)",
    "data.a.b gt 1 OR data.a.b lte 'z\\u00e9\\ud83d\\ude00\\n' AND NOT data.c exists",
    "createdAt gt now-15m AND createdAt lt 'now+2d' OR createdAt eq '2018-01-01T10:00:00.0005+01:00'",
    "id eq '1b4e28ba-2fa1-41d2-883f-0016d3cca427' AND message sw 'The'",
    "createdAt in ('2018-01-01', '9999-12-31', '0001-1-1/2000-1-1')",
)
# fmt: off
PIECES = [
    *"AND OR NOT ( ) , eq ne ct sw gt gte lt lte in exists id email environment component message createdAt".split(),
    *"data data.a data.'bc' 'x' \"y\" '' 1 -0 1e308 1e999 .5 007 now now-15m now-99999999999999d T10:00 Z".split(),
    *"'2018-02-30' '9999-12-31' '0001-01-01' true false null and or not = == >= && || ! [0] . ..".split(),
    *"' \" \\ \\u \\ud800 \\u0000 data. data.'a 'now-1' é ß İ 😀 # -- /* NULL True +01:00".split(),
    "\ud800", "\0", "\u00a0", "\u200b", "\u201c", "\u2018", "\uff08", "\n", "\t",
]
# fmt: on


def main(count: int, seed: int) -> None:
    """Run, and print the outcome."""
    chance, started = random.Random(seed), time.monotonic()
    read = 0
    for number in range(count):
        text = _draw(chance)
        try:
            read += check(text, chance)
        except Exception:
            print(f"text {number} of seed {seed}: {text!r}")  # noqa: T201
            raise
    seconds = time.monotonic() - started
    print(f"{count:,} texts, {read:,} read, {count - read:,} refused, nothing else; {seconds:.0f} s, seed {seed}")  # noqa: T201


def _draw(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.2:
        return "".join(chr(_point(chance)) for _ in range(chance.randrange(20)))
    if kind < 0.5:
        return chance.choice(["", " "]).join(chance.choices(PIECES, k=chance.randrange(1, 12)))
    text = _compose(chance)
    for _ in range(chance.randrange(3)):
        text = _mutate(text, chance)
    return text


def _compose(chance: random.Random) -> str:
    text = chance.choice(SEEDS)
    while chance.random() < 0.4:
        text = chance.choice(["({})", "NOT ({})", "{} AND " + chance.choice(SEEDS), "{} OR NOT {}"]).replace("{}", text)
    return text


def _point(chance: random.Random) -> int:
    return chance.choice([chance.randrange(128), chance.randrange(0x3000), chance.randrange(0x110000)])


def _mutate(text: str, chance: random.Random) -> str:
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.randrange(1, 8))
    other = chance.choice(SEEDS)
    cut = chance.randrange(len(other))
    return chance.choice(
        [
            text[:start] + text[end:],
            text[:start] + chr(_point(chance)) + text[start:],
            text[:start] + chance.choice(PIECES) + text[end:],
            text[:start] + text[start:end] * 2 + text[end:],
            text[:start] + other[cut : cut + chance.randrange(1, 40)] + text[end:],
            text[:start] + text[start:end].swapcase() + text[end:],
            text[:start] + chance.choice("()'\"\\.,") * chance.randrange(1, 90) + text[start:],
        ]
    )


def _check_error(error: QueryError) -> None:
    assert 0 <= error.offset <= len(error.text), error.offset
    assert error.width >= 1
    assert error.reason
    assert render_excerpt(error).count("\n") == 1


def check(text: str, chance: random.Random) -> bool:
    """Read text and everything that follows from it; say whether it was a query."""
    zone = chance.choice(["UTC", "Europe/Berlin", "Pacific/Apia", "America/Havana"])
    try:
        node = parse(text, now=1_542_000_000_123, tz=zone)
    except QueryError as exc:
        _check_error(exc)
        return False
    printed = render(node)
    assert len(printed) > LONGEST or parse(printed, now=0) == node, printed
    to_elasticsearch(node)
    to_sql(node)
    to_predicate(node)
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
