"""A world to ask questions in: the same events in PostgreSQL, in Elasticsearch and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import psycopg2.extensions
import pytest
import requests
from msgspec import structs
from psycopg2.extras import execute_values

from eventsvc.event import Event, format_time
from eventsvc.index import mapping
from eventsvc.query import ast
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_predicate import Candidate, to_predicate
from eventsvc.query.to_sql import to_sql

Seqs = frozenset[int]

_INSERT = (
    "INSERT INTO event (id, created_at, occurred_at, email, environment, component, message, data) VALUES %s"
    " RETURNING seq, data::text"
)
_ROW = "(%s::uuid, %s::timestamptz, %s::bigint, %s, %s, %s, %s, %s::jsonb)"
_PER_STATEMENT = 25
_PAGE = 10_000  # hits that Elasticsearch gives at once


def _given(draft: Event) -> int | None:
    """What was sent, if a sender leaves out a time at which an event happened just when it was stored."""
    return None if draft.occurred_at == draft.created_at * 1_000_000 else draft.occurred_at


class World:
    """Stores events in both stores, and asks all three evaluators."""

    def __init__(self, connection: psycopg2.extensions.connection, elasticsearch_url: str, index: str) -> None:
        self._connection, self._http = connection, requests.Session()
        self._url, self._index = elasticsearch_url, index
        answer = self._http.put(f"{self._url}/{index}", json=mapping.index_body(replicas=0), timeout=60)
        assert answer.ok, answer.text

    def close(self) -> None:
        self._http.close()

    def store(self, drafts: Sequence[Event]) -> list[Event]:
        """Store events; gives them back with their seqs, and with data as PostgreSQL tells it."""
        rows = [
            (draft.id, format_time(draft.created_at), _given(draft), draft.email, draft.environment, draft.component,
             draft.message, draft.data)
            for draft in drafts
        ]  # fmt: skip
        with self._connection.cursor() as cursor:
            stored = execute_values(cursor, _INSERT, rows, template=_ROW, page_size=len(rows), fetch=True)
        pairs = zip(drafts, stored, strict=True)
        events = [structs.replace(draft, seq=seq, data=data) for draft, (seq, data) in pairs]
        for start in range(0, len(events), 5000):
            self._index_events(events[start : start + 5000])
        return events

    def _index_events(self, events: Sequence[Event]) -> None:
        lines: list[bytes] = []
        for event in events:
            lines += [orjson.dumps({"index": {"_id": str(event.seq)}}), orjson.dumps(mapping.to_document(event))]
        answer = self._post(f"{self._index}/_bulk?refresh=true", lines)
        assert not answer["errors"], [item for item in answer["items"] if item["index"]["status"] >= 300][:3]

    def _post(self, path: str, lines: list[bytes]) -> Any:
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._http.post(f"{self._url}/{path}", b"\n".join(lines) + b"\n", headers=headers, timeout=120)
        assert answer.ok, answer.text
        return orjson.loads(answer.content)

    def predicate(self, nodes: Sequence[ast.Node], events: Sequence[Event]) -> list[Seqs]:
        """What the predicate finds for each node."""
        tests = [to_predicate(node) for node in nodes]
        candidates = [Candidate(event) for event in events]
        return [frozenset(one.event.seq for one in candidates if test(one)) for test in tests]

    def sql(self, nodes: Sequence[ast.Node], events: Sequence[Event]) -> list[Seqs]:
        """What PostgreSQL finds for each node."""
        found: list[set[int]] = [set() for _ in nodes]
        for start in range(0, len(nodes), _PER_STATEMENT):
            selects, values = [], []
            for place, node in enumerate(nodes[start : start + _PER_STATEMENT], start):
                text, parameters = to_sql(node)
                selects.append(f"SELECT {place}, seq FROM event WHERE seq BETWEEN %s AND %s AND ({text})")
                values += [events[0].seq, events[-1].seq, *parameters]
            with self._connection.cursor() as cursor:
                cursor.execute(" UNION ALL ".join(selects), values)
                for place, seq in cursor:
                    found[place].add(seq)
        return [frozenset(seqs) for seqs in found]

    def elasticsearch(self, nodes: Sequence[ast.Node], events: Sequence[Event]) -> list[Seqs | None]:
        """What Elasticsearch finds for each node; None where the index is not asked."""
        queries = [to_elasticsearch(node) for node in nodes]
        found: list[Seqs | None] = [None if query is None else frozenset() for query in queries]
        for start in range(0, len(events), _PAGE):
            for place, seqs in enumerate(self._page(queries, events[start : start + _PAGE])):
                found[place] = seqs if seqs is None else seqs | (found[place] or frozenset())
        return found

    def _page(self, queries: Sequence[Any], events: Sequence[Event]) -> list[Seqs | None]:
        lines = []
        for query in queries:
            if query is not None:
                lines += [b"{}", orjson.dumps(_search(query, events))]
        answers = iter(self._post(f"{self._index}/_msearch", lines)["responses"] if lines else [])
        return [None if query is None else _seqs(next(answers), query) for query in queries]

    def ask(self, nodes: Sequence[ast.Node], events: Sequence[Event]) -> list[Seqs]:
        """Ask all three, compare, and give what they agree on."""
        predicate, sql = self.predicate(nodes, events), self.sql(nodes, events)
        index = self.elasticsearch(nodes, events)
        for place, node in enumerate(nodes):
            assert sql[place] == predicate[place], (
                "SQL",
                node,
                to_sql(node),
                _odd(sql[place], predicate[place], events),
            )
            if (found := index[place]) is not None:
                assert found == predicate[place], (
                    "Elasticsearch", node, to_elasticsearch(node), _odd(found, predicate[place], events)
                )  # fmt: skip
        return predicate


def _odd(found: Seqs, expected: Seqs, events: Sequence[Event]) -> list[Any]:
    """Give the events that one side has and the other has not, to be shown."""
    return [
        ("too many" if event.seq in found else "missing", event) for event in events if event.seq in found ^ expected
    ]


def _search(query: Any, events: Sequence[Event]) -> dict[str, Any]:
    those = {"range": {"seq": {"gte": events[0].seq, "lte": events[-1].seq}}}
    return {
        "query": {"bool": {"filter": [query, those]}},
        "_source": False,
        "docvalue_fields": ["seq"],
        "size": len(events),
        "track_total_hits": False,
    }


def _seqs(answer: Any, query: Any) -> Seqs:
    assert "error" not in answer, (query, answer["error"])
    return frozenset(hit["fields"]["seq"][0] for hit in answer["hits"]["hits"])


@pytest.fixture
def world(connection: psycopg2.extensions.connection, elasticsearch_url: str, index_prefix: str) -> Iterator[World]:
    opened = World(connection, elasticsearch_url, f"{index_prefix}-language")
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def make_draft(make_event: Callable[..., Event]) -> Callable[..., Event]:
    """Make an event that is not stored yet; its data may be given as an object."""

    def make(*, data: Any = None, **changes: Any) -> Event:
        text = orjson.dumps({} if data is None else data, option=orjson.OPT_NON_STR_KEYS).decode()
        return make_event(data=text, **changes)

    return make
