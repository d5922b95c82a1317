"""The cases of tests/language and the table of the reference, on all three evaluators."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import orjson

from eventsvc.event import parse_nanoseconds, parse_time
from eventsvc.query.parse import parse

ROOT = Path(__file__).parents[3]
_ROW = re.compile(r"\| .* \| .* \| `(.*)` \| `(.*)` \|")


def test_every_case_finds_what_it_says(world: Any, make_draft: Any) -> None:
    cases = tomllib.loads((ROOT / "tests/language/cases.toml").read_text(encoding="utf-8"))
    names = list(cases["events"])
    drafts = [_draft(make_draft, cases["defaults"] | cases["events"][name]) for name in names]
    events = world.store(drafts)
    by_seq = {event.seq: name for name, event in zip(names, events, strict=True)}
    now = parse_time(cases["now"])
    nodes = [parse(case["query"], now=now, tz=case.get("tz", "UTC")) for case in cases["case"]]
    for case, seqs in zip(cases["case"], world.ask(nodes, events), strict=True):
        assert {by_seq[seq] for seq in seqs} == set(case["finds"]), (case["why"], case["query"])


def _draft(make_draft: Any, values: dict[str, str]) -> Any:
    changes = values | {"created_at": parse_time(values["created_at"]), "data": orjson.Fragment(values["data"])}
    if "occurred_at" in values:
        changes["occurred_at"] = parse_nanoseconds(values["occurred_at"])
    return make_draft(**changes)


def test_the_reference_is_true(world: Any, make_draft: Any) -> None:
    text = (ROOT / "docs/query-language.md").read_text(encoding="utf-8")
    sample = json.loads(text.split("```json")[1].split("```")[0])
    created_at = parse_time(sample.pop("createdAt"))
    occurred_at = parse_nanoseconds(sample.pop("occurredAt"))
    events = world.store([make_draft(created_at=created_at, occurred_at=occurred_at, **sample)])
    table = text.split("<!-- reference -->")[1].split("<!-- end of reference -->")[0]
    rows = [match.groups() for line in table.splitlines() if (match := _ROW.fullmatch(line))]
    assert len(rows) == len(table.strip().splitlines()) - 2
    now = created_at + 60 * 86_400_000
    found = world.ask([parse(finds, now=now) for finds, _ in rows], events)
    left_out = world.ask([parse(does_not, now=now) for _, does_not in rows], events)
    assert [row for row, seqs in zip(rows, found, strict=True) if not seqs] == []
    assert [row for row, seqs in zip(rows, left_out, strict=True) if seqs] == []
