"""What is near a limit of a store's is answered exactly all the same."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import requests

from eventsvc.query import ast
from eventsvc.query.parse import LONGEST, parse
from eventsvc.query.to_elasticsearch import DEEPEST, LONGEST_PREFIX, LONGEST_WILDCARD, to_elasticsearch

MESSAGE, A = ast.Name("message"), ast.Path(("a",))


def test_needles_of_every_length(world: Any, make_draft: Any) -> None:
    """Repeated characters are the worst there is for an automaton."""
    texts = ["a" * 8191, "a" * 4000 + "😀漢" * 2000]
    drafts = [make_draft(message=text, data={"a": text}, component=text[:100], email=text[:254]) for text in texts]
    events = world.store(drafts)
    nodes: list[ast.Node] = []
    for text in texts:
        for length in (1, 3, LONGEST_WILDCARD - 5, LONGEST_PREFIX, 4096, 4097, 8191):
            for needle in (text[:length], text[-length:]):
                nodes += [
                    ast.Contains(MESSAGE, needle),
                    ast.StartsWith(MESSAGE, needle),
                    ast.Equal(MESSAGE, ast.Text(needle)),
                ]
                nodes += [ast.Contains(A, needle), ast.StartsWith(A, needle), ast.Equal(A, ast.Text(needle))]
                nodes += [ast.Range(A, ast.Order.GT, ast.Text(needle)), ast.Range(A, ast.Order.LTE, ast.Text(needle))]
                nodes += [ast.Contains(ast.Name("email"), needle), ast.StartsWith(ast.Name("component"), needle)]
    world.ask(nodes, events)
    assert sum(to_elasticsearch(node) is not None for node in nodes) > len(nodes) // 2


def test_long_paths_are_paths(world: Any, make_draft: Any) -> None:
    keys = ["k" * 95, "k" * 96, "k" * 97, "😀" * 10_000, "*" * 90, "?" * 200]
    events = world.store([make_draft(data={key: {"x": place, "t": "Text*"}}) for place, key in enumerate(keys)])
    nodes: list[ast.Node] = []
    for place, key in enumerate(keys):
        path = ast.Path((key, "x"))
        nodes += [
            ast.Equal(path, ast.Number(Decimal(place))),
            ast.Range(path, ast.Order.LTE, ast.Number(Decimal(place))),
            ast.Exists(path),
        ]
        nodes += [ast.Contains(ast.Path((key, "t")), "t*"), ast.StartsWith(ast.Path((key, "t")), "tEXT*")]
    assert all(len(seqs) == 1 for seqs in world.ask(nodes, events))


def test_the_deepest_and_the_broadest_queries_are_taken(world: Any, make_draft: Any) -> None:
    """With room for what a search puts round them."""
    events = world.store([make_draft(message=text, data={"n": place}) for place, text in enumerate("abc")])
    deep = "message eq 'a'"
    nodes = []
    for level in range(31):
        deep = f"({deep}) {'AND NOT message eq' if level % 2 else 'OR message ct'} 'b'"
        nodes.append(parse(deep, now=0))
    nodes.append(parse("(" * 64 + "message eq 'a'" + ")" * 64, now=0))
    nodes.append(parse("NOT (" * 32 + "message eq 'a'" + ")" * 32, now=0))
    for text in ("data.n gt 1", "message ct 'b'", "email ct 'xy'", "NOT id exists", "createdAt lt '2018-1-1'"):
        for joint in (" OR ", " AND "):
            many = [text] * ((LONGEST + len(joint)) // len(text + joint))
            nodes.append(parse(joint.join(many), now=0))
    nodes.append(parse(f"data.n in ({','.join(map(str, range(1024)))})", now=0))
    nodes.append(parse(f"createdAt in ({','.join(chr(39) + '2018-1-1' + chr(39) for _ in range(600))})", now=0))
    world.ask(nodes, events)


def test_the_deepest_body_leaves_room_for_the_search_itself(elasticsearch_url: str, index_prefix: str) -> None:
    requests.put(f"{elasticsearch_url}/{index_prefix}-deep", timeout=60).raise_for_status()
    body: Any = {"term": {"email": "a"}}
    for _ in range(DEEPEST + 3):
        body = {"bool": {"filter": [body], "must_not": [{"term": {"email": "b"}}]}}
    answer = requests.post(f"{elasticsearch_url}/{index_prefix}-deep/_search", json={"query": body}, timeout=60)
    assert answer.ok, answer.text


def test_many_values_in_one_event(world: Any, make_draft: Any) -> None:
    """An array as long as data may be."""
    chance = random.Random(1)
    numbers = [chance.uniform(-1e6, 1e6) for _ in range(3500)]
    events = world.store([make_draft(data={"a": numbers}), make_draft(data={"a": [str(number) for number in numbers]})])
    some = numbers[1234]
    nodes = [
        ast.Equal(A, ast.Number(Decimal(repr(some)))),
        ast.Equal(A, ast.Text(str(some))),
        ast.Range(A, ast.Order.GT, ast.Number(Decimal(repr(max(numbers))))),
        ast.Range(A, ast.Order.GTE, ast.Number(Decimal(repr(max(numbers))))),
        ast.Contains(A, str(some)[2:]),
    ]
    assert [len(seqs) for seqs in world.ask(nodes, events)] == [1, 1, 0, 1, 1]
