"""Random queries over real log lines find what a plain Python filter finds.

LANGUAGE_LOG_LINES and LANGUAGE_LOG_QUERIES set the size; the filter knows nothing of the language's own code: each
query is written together with the Python function that does the same.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eventsvc.query.parse import parse

LINES = int(os.environ.get("LANGUAGE_LOG_LINES", "3000"))
QUERIES = int(os.environ.get("LANGUAGE_LOG_QUERIES", "160"))

_START = datetime(2018, 1, 1, tzinfo=UTC)
_TEXTS = (
    "/var/log/**/*.log", "/var/log/**/syslog", "/var/log/**/messages", "/usr/share/doc/*/changelog",
    "/usr/share/perl/**/*.pm", "/etc/services", "/usr/lib/python3*/*.py", "/usr/share/common-licenses/*",
)  # fmt: skip
_ENVIRONMENTS = ("production", "Production", "staging", "dev_1")


@dataclass(frozen=True)
class Line:
    """A log line and what was made up around it."""

    message: str
    component: str
    environment: str
    email: str
    created_at: datetime
    data: dict[str, Any]


Filter = Callable[[Line], bool]


def real_lines() -> Iterator[tuple[str, str]]:
    """The lines of all logs that this machine has, with the name of the file; then of other texts, if they are few."""
    for pattern in _TEXTS:
        for path in sorted(Path("/").glob(pattern[1:])):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            yield from ((path.name, line[:8000]) for line in text.splitlines() if line.strip() and "\0" not in line)


def _lines(chance: random.Random) -> list[Line]:
    found = [line for _, line in zip(range(LINES), real_lines(), strict=False)]
    assert len(found) > 100, "this machine has no texts"
    # Too few: the same ones again, with a number that makes them lines of their own.
    while len(found) < LINES:
        name, text = found[chance.randrange(len(found))]
        found.append((name, f"{text} #{len(found)}"))
    return [_make_up(number, name, text, chance) for number, (name, text) in enumerate(found)]


def _make_up(number: int, name: str, text: str, chance: random.Random) -> Line:
    words = text.split()
    data: dict[str, Any] = {
        "line": number,
        "words": words[:8],
        "size": {"chars": len(text), "mean": len(text) / len(words)},
    }
    if "error" in text.lower() or number % 7 == 0:
        data["level"] = chance.choice(["error", "Warning", None, 3, True])
    if number % 5 == 0:
        data["lists"] = [[number % 10, [str(number % 10)]], {"deep key": -number / 8}]
    return Line(
        text, name[:100], _ENVIRONMENTS[number % 4], f"user{number % 50}@example.com",
        _START + timedelta(seconds=number * 61, milliseconds=number % 1000), data,
    )  # fmt: skip


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _swap(text: str, chance: random.Random) -> str:
    return chance.choice([text, text.lower(), text.upper() if text.upper().lower() == text.lower() else text])


def _comparison(lines: list[Line], chance: random.Random) -> tuple[str, Filter]:
    return chance.choice(_COMPARISONS)(chance.choice(lines), chance)


def _message_contains(line: Line, chance: random.Random) -> tuple[str, Filter]:
    start = chance.randrange(len(line.message))
    needle = _swap(line.message[start : start + chance.choice([1, 2, 3, 4, 6, 10, 40])], chance)
    return f"message ct {_quote(needle)}", lambda one: needle.lower() in one.message.lower()


def _message_starts(line: Line, chance: random.Random) -> tuple[str, Filter]:
    needle = _swap(line.message[: chance.choice([1, 2, 3, 12, 20])], chance)
    return f"message sw {_quote(needle)}", lambda one: one.message.lower().startswith(needle.lower())


def _message_is(line: Line, chance: random.Random) -> tuple[str, Filter]:
    text = chance.choice([line.message, line.message, line.message.upper()])
    if chance.random() < 0.5:
        return f"message eq {_quote(text)}", lambda one: one.message == text
    return f"message ne {_quote(text)}", lambda one: one.message != text


def _component(line: Line, chance: random.Random) -> tuple[str, Filter]:
    piece = _swap(line.component[1:6] or "a", chance)
    return chance.choice(
        [
            (f"component eq {_quote(line.component)}", lambda one: one.component == line.component),
            (f"component ct {_quote(piece)}", lambda one: piece.lower() in one.component.lower()),
            (f"component in ({_quote(line.component)}, 'x')", lambda one: one.component in (line.component, "x")),
        ]
    )


def _environment(line: Line, chance: random.Random) -> tuple[str, Filter]:
    piece = _swap(line.environment[:4], chance)
    return chance.choice(
        [
            (f"environment eq '{line.environment}'", lambda one: one.environment == line.environment),
            (f"environment ne '{line.environment}'", lambda one: one.environment != line.environment),
            (f"environment sw '{piece}'", lambda one: one.environment.lower().startswith(piece.lower())),
            ("environment ct '_'", lambda one: "_" in one.environment),
        ]
    )


def _email(line: Line, chance: random.Random) -> tuple[str, Filter]:
    number = line.email[:5]
    return chance.choice(
        [
            (f"email sw '{number.upper()}'", lambda one: one.email.startswith(number)),
            (f"email eq '{line.email}'", lambda one: one.email == line.email),
            (
                f"email in ('{line.email}', 'user1@example.com')",
                lambda one: one.email in (line.email, "user1@example.com"),
            ),
        ]
    )


def _time(line: Line, chance: random.Random) -> tuple[str, Filter]:
    day, moment = line.created_at.strftime("%Y-%m-%d"), line.created_at
    exact = moment.isoformat(timespec="milliseconds")
    return chance.choice(
        [
            (f"createdAt eq '{day}'", lambda one: one.created_at.date() == moment.date()),
            (f"createdAt gt '{day}'", lambda one: one.created_at.date() > moment.date()),
            (f"createdAt lte '{day}'", lambda one: one.created_at.date() <= moment.date()),
            (f"createdAt lt '{exact}'", lambda one: one.created_at < moment),
            (f"createdAt gte '{exact}'", lambda one: one.created_at >= moment),
        ]
    )


def _number(line: Line, chance: random.Random) -> tuple[str, Filter]:
    number, mean = line.data["line"], line.data["size"]["mean"]
    return chance.choice(
        [
            (f"data.line gt {number}", lambda one: one.data["line"] > number),
            (f"data.line in ({number}, {number + 1}.0, 'x')", lambda one: one.data["line"] in (number, number + 1)),
            (f"data.size.mean lte {mean!r}", lambda one: one.data["size"]["mean"] <= mean),
            (f"data.size.mean eq {mean!r}", lambda one: one.data["size"]["mean"] == mean),
            (f"data.size.chars ne {len(line.message)}", lambda one: len(one.message) != len(line.message)),
        ]
    )


def _words(line: Line, chance: random.Random) -> tuple[str, Filter]:
    word = chance.choice(line.data["words"])
    piece = _swap(word[:3], chance)
    return chance.choice(
        [
            (f"data.words eq {_quote(word)}", lambda one: word in one.data["words"]),
            (
                f"data.words ct {_quote(piece)}",
                lambda one: any(piece.lower() in other.lower() for other in one.data["words"]),
            ),
            (f"data.words gte {_quote(word)}", lambda one: any(other >= word for other in one.data["words"])),
        ]
    )


def _odd(line: Line, chance: random.Random) -> tuple[str, Filter]:
    digit, deep = line.data["line"] % 10, -line.data["line"] / 8
    return chance.choice(
        [
            ("data.level eq null", lambda one: one.data.get("level", 0) is None),
            ("data.level eq true", lambda one: one.data.get("level") is True),
            ("data.level sw 'W'", lambda one: one.data.get("level") == "Warning"),
            ("data.level exists", lambda one: "level" in one.data),
            ("data.level ne 'error'", lambda one: one.data.get("level") != "error"),
            (f"data.lists eq {digit}", lambda one: "lists" in one.data and one.data["line"] % 10 == digit),
            (f"data.lists eq '{digit}'", lambda one: "lists" in one.data and one.data["line"] % 10 == digit),
            (f"data.lists.'deep key' lt {deep!r}", lambda one: "lists" in one.data and -one.data["line"] / 8 < deep),
        ]
    )


_COMPARISONS = (
    _message_contains, _message_contains, _message_contains, _message_starts, _message_is, _component, _environment,
    _email, _time, _time, _number, _words, _odd,
)  # fmt: skip


def _query(lines: list[Line], chance: random.Random, depth: int = 0) -> tuple[str, Filter]:
    kind = chance.random()
    if depth > 2 or kind < 0.4:
        return _comparison(lines, chance)
    text, test = _query(lines, chance, depth + 1)
    if kind < 0.55:
        return f"NOT ({text})", lambda one: not test(one)
    other_text, other = _query(lines, chance, depth + 1)
    if kind < 0.8:
        return f"({text}) AND ({other_text})", lambda one: test(one) and other(one)
    return f"({text}) OR ({other_text})", lambda one: test(one) or other(one)


def test_random_queries_overreal_lines(world: Any, make_draft: Any) -> None:
    chance = random.Random(20180131)
    lines = _lines(chance)
    drafts = [
        make_draft(
            message=line.message, component=line.component, environment=line.environment, email=line.email,
            data=line.data, created_at=round(line.created_at.timestamp() * 1000),
        )
        for line in lines
    ]  # fmt: skip
    events = world.store(drafts)
    pairs = [_query(lines, chance) for _ in range(QUERIES)]
    sizes = []
    for start in range(0, QUERIES, 20):
        some = pairs[start : start + 20]
        answers = world.ask([parse(text, now=0) for text, _ in some], events)
        for (text, test), seqs in zip(some, answers, strict=True):
            expected = {event.seq for event, line in zip(events, lines, strict=True) if test(line)}
            assert seqs == expected, text
            sizes.append(len(seqs))
    assert sum(0 < size < LINES for size in sizes) > QUERIES * 0.7
    assert sum(0 < size < LINES / 20 for size in sizes) > QUERIES * 0.15
