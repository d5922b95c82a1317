"""config/kibana/dashboards.ndjson: whole, in Kibana's format, and every panel gives the right numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from eventsvc.event import Event
from eventsvc.index import bulk, indexes
from eventsvc.index import client as index_client
from eventsvc.index.mapping import index_body
from eventsvc.settings import load
from tests.integration import kibana

OBJECTS = kibana.read_objects()
DASHBOARD = OBJECTS["dashboard", "eventsvc-overview"]
PROPERTIES = index_body(replicas=0)["mappings"]["properties"]

# The versions of the objects' models as real exports of Kibana 9 carry them; later ones migrate them on import.
VERSIONS = {"index-pattern": "8.0.0", "search": "10.4.0", "dashboard": "10.3.0"}
ERROR_WORDS = ("error", "fail", "exception")
ERROR_WHOLE_WORDS = {"traceback", "timeout", "refused", "denied", "fatal", "panic"}

MESSAGES = [
    "the buyer #123456 has placed an order",
    "Error: cannot reach the payment service",
    "request failed after 3 tries",
    "connection refused by peer",
    "terrors of the night",  # holds "error", but as no word's beginning
    "ValueException in handler",  # neither
    "Exception in handler",
    "upstream timeout, giving up",
    "panicking is not panic: this is",
    "all is well",
]


def _everything() -> list[Any]:
    searches = [kibana.saved_search(found) for (kind, _), found in OBJECTS.items() if kind == "search"]
    return [*kibana.panels(DASHBOARD), *kibana.controls(DASHBOARD), *searches]


def test_objects_have_the_form_of_an_export() -> None:
    """The keys of an export, in Kibana's order, with the model versions of Kibana 9."""
    for line in kibana.FILE.read_text().splitlines()[:-1]:
        found = json.loads(line)
        assert list(found) == sorted(found)
        assert set(found) == {
            *("attributes", "coreMigrationVersion", "created_at", "id", "managed", "references"),
            *("type", "typeMigrationVersion", "updated_at"),
        }
        assert found["typeMigrationVersion"] == VERSIONS[found["type"]]
        assert found["coreMigrationVersion"] == "8.8.0"


def test_ids_are_stable() -> None:
    """Ids never change: an import with overwrite then replaces, and a second one changes nothing."""
    assert set(OBJECTS) == {
        ("index-pattern", "eventsvc-data-view"),
        ("search", "eventsvc-newest"),
        ("search", "eventsvc-error-like"),
        ("dashboard", "eventsvc-overview"),
    }


def test_references_are_complete() -> None:
    """Everything that is referred to is in the file, before what refers to it; no name is used without a reference."""
    seen: set[tuple[str, str]] = set()
    for key, found in OBJECTS.items():
        assert all((reference["type"], reference["id"]) in seen for reference in found["references"]), key
        names = [reference["name"] for reference in found["references"]]
        assert len(set(names)) == len(names)
        seen.add(key)
    assert {reference["name"] for reference in DASHBOARD["references"]} == set(_names_used(DASHBOARD))
    for kind, name in OBJECTS:
        if kind == "search":
            source = json.loads(OBJECTS[kind, name]["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            assert [source["indexRefName"]] == [reference["name"] for reference in OBJECTS[kind, name]["references"]]


def _names_used(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
        if "panelRefName" in panel:
            yield f"{panel['panelIndex']}:{panel['panelRefName']}"
        else:
            attributes = panel["embeddableConfig"]["attributes"]
            layers = attributes["state"]["datasourceStates"]["formBased"]["layers"]
            own = {f"indexpattern-datasource-layer-{layer}" for layer in layers}
            assert own == {reference["name"] for reference in attributes["references"]}
            yield from (f"{panel['panelIndex']}:{name}" for name in own)
    for control in json.loads(dashboard["attributes"]["controlGroupInput"]["panelsJSON"]):
        yield f"controlGroup_{control}:optionsListDataView"


def test_data_view_is_on_the_alias() -> None:
    """It shows the alias that all months share, by the time of the events, and opens before there is any."""
    attributes = OBJECTS["index-pattern", "eventsvc-data-view"]["attributes"]
    assert attributes["title"] == load({}).index_prefix
    assert kibana.field_mapping(PROPERTIES, attributes["timeFieldName"])["type"] == "date"
    assert attributes["allowNoIndex"]


def test_dashboard_has_what_was_asked_for() -> None:
    """Panels and controls, none over another."""
    assert [panel.title for panel in kibana.controls(DASHBOARD)] == ["Environment", "Component", "E-mail address"]
    grids = [panel["gridData"] for panel in json.loads(DASHBOARD["attributes"]["panelsJSON"])]
    cells = Counter(
        (x, y) for g in grids for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])
    )
    assert set(cells.values()) == {1}
    assert max(x for x, _ in cells) < 48


@pytest.mark.parametrize("panel", _everything(), ids=lambda panel: panel.title)
def test_fields_support_what_is_done_with_them(panel: Any) -> None:
    """Every field is in the mapping, with a type that the operation can work on."""
    assert [problem for use in panel.uses if (problem := kibana.fault(PROPERTIES, use))] == []


@pytest.mark.parametrize(
    ("name", "operation"), [("nothing", "terms"), ("message", "terms"), ("id", "terms"), ("email", "date_histogram")]
)
def test_a_wrong_field_would_be_noticed(name: str, operation: str) -> None:
    """The check itself finds a field that is missing, of the wrong type, or without doc_values."""
    assert kibana.fault(PROPERTIES, kibana.Use("here", name, operation))


@pytest.fixture
def events(make_event: Callable[..., Event]) -> list[Event]:
    """Two days of events; every combination has another count."""
    start = int(datetime(2026, 11, 20, 0, 30, tzinfo=UTC).timestamp() * 1000)
    return [
        make_event(
            created_at=start + (i * 7919 % (48 * 60)) * 60_000,
            environment=("production", "staging", "test")[min(i % 6, 2) if i % 5 else 0],
            component=f"component-{(i * i) % 29}",
            email=f"user{(i * i * i) % 17}@example.com",
            message=MESSAGES[i % len(MESSAGES)],
        )
        for i in range(400)
    ]


@pytest.fixture
def filled(events: list[Event], elasticsearch_url: str, index_prefix: str) -> Iterator[Callable[..., Any]]:
    """A function that searches the alias, with the events in a month's index behind it."""
    settings = load({}, elasticsearch_url=elasticsearch_url, index_prefix=index_prefix)
    with index_client.connect(settings) as client:
        index = indexes.create(client, index_prefix, date(2026, 11, 1), replicas=0)
        _send(client, events, index.name)
        yield lambda body: client.search(index=index_prefix, body=body).body


def _send(client: Elasticsearch, events: list[Event], index: str) -> None:
    import threading

    assert bulk.send(client, [bulk.write_item(event, index) for event in events], threading.Event()) == []
    client.indices.refresh(index=index)


def _looks_like_an_error(event: Event) -> bool:
    words = "".join(c if c.isalnum() else " " for c in event.message.lower()).split()
    return any(word.startswith(ERROR_WORDS) or word in ERROR_WHOLE_WORDS for word in words)


def _body(title: str) -> Any:
    (panel,) = [panel for panel in _everything() if panel.title == title]
    return panel.body


def _buckets(answer: Any, name: str) -> dict[Any, int]:
    return {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"][name]["buckets"]}


def _hour(event: Event) -> int:
    return event.created_at // 3_600_000 * 3_600_000


def test_panels_that_count(filled: Callable[..., Any], events: list[Event]) -> None:
    """All events, and different addresses."""
    assert filled(_body("Events"))["hits"]["total"]["value"] == len(events)
    senders = filled(_body("Different e-mail addresses"))["aggregations"]["senders"]["value"]
    assert senders == len({event.email for event in events})


def test_panel_over_time_by_environment(filled: Callable[..., Any], events: list[Event]) -> None:
    """The count of each environment in each hour."""
    answer = filled(_body("Events over time by environment"))
    assert _buckets(answer, "environment") == Counter(event.environment for event in events)
    got = {
        (outer["key"], inner["key"]): inner["doc_count"]
        for outer in answer["aggregations"]["environment"]["buckets"]
        for inner in outer["time"]["buckets"]
        if inner["doc_count"]
    }
    assert got == Counter((event.environment, _hour(event)) for event in events)


@pytest.mark.parametrize(
    ("title", "field"), [("Top components", "component"), ("Top e-mail addresses", "email")], ids=["component", "email"]
)
def test_panels_of_top_values(filled: Callable[..., Any], events: list[Event], title: str, field: str) -> None:
    """The ten most frequent, with their counts."""
    got = _buckets(filled(_body(title)), field)
    counts = Counter(getattr(event, field) for event in events)
    assert len(got) == 10
    assert all(counts[value] == count for value, count in got.items())
    assert sorted(got.values(), reverse=True) == sorted(counts.values(), reverse=True)[:10]


def test_panel_of_error_like_messages(filled: Callable[..., Any], events: list[Event]) -> None:
    """Messages with a word of failure, and no others, by component."""
    answer = filled(_body("Error-like messages by component"))
    expected = Counter(event.component for event in events if _looks_like_an_error(event))
    assert 0 < sum(expected.values()) < len(events)
    assert answer["hits"]["total"]["value"] == sum(expected.values())
    got = _buckets(answer, "component")
    assert all(expected[component] == count for component, count in got.items())
    assert sorted(got.values(), reverse=True) == sorted(expected.values(), reverse=True)[:5]


def test_saved_searches(filled: Callable[..., Any], events: list[Event]) -> None:
    """Newest first, with every column filled; the one of errors shows only those."""
    for title, wanted in [
        ("Newest events", events),
        ("Error-like messages", list(filter(_looks_like_an_error, events))),
    ]:
        hits = filled({**_body(title), "size": 1000})["hits"]["hits"]
        assert len(hits) == len(wanted)
        assert [hit["sort"][0] for hit in hits] == sorted((event.created_at for event in wanted), reverse=True)
        assert all(set(hit["fields"]) == {"environment", "component", "email", "message"} for hit in hits)


def test_controls_offer_the_values(filled: Callable[..., Any], events: list[Event]) -> None:
    """Each control lists its field's most frequent values."""
    for control in kibana.controls(DASHBOARD):
        ((_, field, _),) = [(use.where, use.field, use.operation) for use in control.uses]
        counts = Counter(getattr(event, field) for event in events)
        got = _buckets(filled(control.body), "0")
        assert all(counts[value] == count for value, count in got.items())
        assert len(got) == min(10, len(counts))
