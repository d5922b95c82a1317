"""Documents, and the events that come back out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc.event import Event
from eventsvc.fields import FIELDS
from eventsvc.index import mapping

Make = Callable[..., Event]


def round_trip(event: Event) -> Event:
    """What Elasticsearch gives back of a document: all but what _source leaves out."""
    document = msgspec.json.decode(orjson.dumps(mapping.to_document(event)))
    excluded = mapping.index_body(replicas=0)["mappings"]["_source"]["excludes"]
    return mapping.from_hit({name: value for name, value in document.items() if name not in excluded})


def test_an_event_comes_back_as_it_was(make_event: Make) -> None:
    event = make_event(message='quotes " and \\ and \u2028 and 😀', data='{"a": [1, null, true, "ü"], "": {".": {}}}')
    assert round_trip(event) == event


@pytest.mark.parametrize("data", ["1", '"text"', "null", "[1, 2]", "true", "-0.5"])
def test_data_that_is_no_object_comes_back(make_event: Make, data: str) -> None:
    event = make_event(data=data)
    assert "data" not in mapping.to_document(event)
    assert round_trip(event) == event


def test_integers_of_any_size_stay_exact(make_event: Make) -> None:
    event = make_event(data=f'{{"n": {10**300 + 7}, "m": -{2**64}}}')
    assert round_trip(event) == event


@pytest.mark.parametrize(
    "number", ["0.0000001", "-0.00000000012345", "123456789012345.6", "0.1", "100.5", "10000000000000000.0"]
)
def test_numbers_look_as_postgresql_writes_them(make_event: Make, number: str) -> None:
    event = make_event(data=f'{{"n": [{number}], "e-7": "1e-7"}}')
    assert round_trip(event).data == event.data


def test_a_key_path_too_long_for_a_term_is_kept_aside(make_event: Make) -> None:
    event = make_event(data=json.dumps({"k" * 9_000: 1}))
    assert "data_value" in mapping.to_document(event)
    assert round_trip(event) == event
    assert "data" in mapping.to_document(make_event(data=json.dumps({"k": "v" * 60_000})))


def test_the_document_has_what_the_fields_table_promises(make_event: Make) -> None:
    document = mapping.to_document(make_event())
    properties = mapping.index_body(replicas=0)["mappings"]["properties"]
    for field in FIELDS.values():
        for path in filter(None, (field.exact, field.folded)):
            outer, _, inner = path.partition(".")
            if outer == "terms":
                assert inner in properties["terms"]["properties"]
                assert inner in document["terms"]
            else:
                assert outer in properties
                assert not inner or inner in properties[outer]["fields"]
    assert set(document) - {"data", "data_value"} <= set(properties)


def test_kibana_finds_the_names_that_it_knows() -> None:
    properties = mapping.index_body(replicas=0)["mappings"]["properties"]
    assert properties["@timestamp"] == {"type": "alias", "path": "createdAt"}
    assert properties["user"]["properties"]["email"] == {"type": "alias", "path": "email"}
    assert properties["service"]["properties"]["name"] == {"type": "alias", "path": "component"}


@given(st.integers(0, 2**41), st.integers(0, 999), st.sampled_from([0, 1, 1000, 100_000]) | st.integers(0, 999_999))
def test_times_come_back_to_their_last_digit(seconds: int, milliseconds: int, rest: int) -> None:
    created_at = seconds % 250_000_000_000 // 1000 * 1000 + milliseconds
    event = Event(1, "x", created_at, created_at * 1_000_000 + rest, "e", "e", "c", "m", "{}")
    assert round_trip(event) == event


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50)
@given(_json)
def test_any_data_comes_back_as_it_was(value: Any) -> None:
    event = Event(1, "x", 0, 0, "e", "e", "c", "m", mapping._jsonb_text(value))
    assert round_trip(event) == event


@pytest.mark.parametrize(
    "change",
    [
        {"message": "other"},
        {"data": "{}"},
        {"created_at": 5},
        {"occurred_at": 5},
        {"email": "x@y.z"},
        {"seq": 9},
        {"id": "9"},
    ],
)
def test_a_checksum_notices_every_change(make_event: Make, change: dict[str, Any]) -> None:
    event = make_event(seq=1, id="1", created_at=4)
    values = {name: getattr(event, name) for name in Event.__struct_fields__} | change
    assert mapping.checksum(event) != mapping.checksum(Event(**values))
