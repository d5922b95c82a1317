"""partial=true keeps its promise whatever the body looks like, and sanitize=true keeps what would be refused."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from eventsvc.api.openapi_parts import SCHEMAS

NDJSON = "application/x-ndjson"
GOOD = {"email": "ops@example.com", "environment": "test", "component": "partial", "message": "good"}


def write(*events: Any) -> list[bytes]:
    return [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]


BAD = [{"message": "no address"}, b"not json", GOOD | {"data": "x" * 1_600_000}, GOOD | {"mesage": "x"}, b'{"a": NaN}']


@pytest.mark.parametrize("bad", BAD, ids=["incomplete", "not JSON", "too large", "unknown field", "no number"])
@pytest.mark.parametrize("form", ["object", "array", "lines", "packed", "packed object"])
def test_a_bad_event_is_named_and_costs_its_neighbours_nothing(service: Any, form: str, bad: Any) -> None:
    """One object, an array, lines: the same 200 and the same report."""
    good, (bad_text,) = write(GOOD, GOOD), write(bad)
    headers = {"Content_Type": NDJSON if form in {"lines", "packed"} else "application/json"}
    if form in {"object", "packed object"}:
        body, expected = bad_text, 0
    else:
        between = b"," if form == "array" else b"\n"
        body, expected = between.join([good[0], bad_text, good[1]]), 2
    if form == "array":
        body = b"[" + body + b"]"
    if form.startswith("packed"):
        body, headers["Content_Encoding"] = gzip.compress(body), "gzip"
    answer = service.post(body, "?partial=true", **headers)
    report = answer.json()
    assert (answer.status, report["count"], report["rejected"], report["sanitized"]) == (200, expected, 1, 0)
    assert {error["line"] for error in report["errors"]} == {2 if expected else 1}
    assert report.keys() <= SCHEMAS["Stored"]["properties"].keys()
    assert report["createdAt"] or "null" in SCHEMAS["Stored"]["properties"]["createdAt"]["type"]
    assert service.count() == expected


def test_one_good_object_is_answered_200_as_many_are(service: Any) -> None:
    one = service.post(GOOD, "?partial=true", Idempotency_Key="one")
    report = one.json()
    ((stored,),) = service.rows("SELECT id::text FROM event")
    assert (one.status, report["count"], report["errors"]) == (200, 1, [])
    assert report["firstId"] == report["lastId"] == stored
    assert one.headers["location"] == f"/event/{stored}"
    assert service.post(GOOD, "?partial=true", Idempotency_Key="one").json() == report
    assert service.post([GOOD], "?partial=true").json().keys() == report.keys()
    assert service.post(GOOD, "?partial=true&sanitize=false", Idempotency_Key="one").status == 422
    assert service.post(GOOD, "?partial=true&dryRun=true").json()["count"] == 1


@pytest.mark.parametrize("between", [b"", b"\n", b" \r\n"])
@pytest.mark.parametrize("size", [10, 1_100_000])
def test_objects_that_follow_one_another_are_many_events(service: Any, between: bytes, size: int) -> None:
    """What Fluent Bit's json_stream, and json_lines before version 3.1, send as application/json."""
    body = between.join(write(*[GOOD | {"message": f"m {n}", "data": "x" * 10_000} for n in range(size // 10_000 + 2)]))
    answer = service.post(b"\xef\xbb\xbf" + body)
    assert (answer.status, answer.json()["count"]) == (201, size // 10_000 + 2)
    assert service.post(body + b"{}").status == 422
    assert service.post(body + b" x").status in {400, 422}
    assert service.count() == size // 10_000 + 2


def test_a_byte_order_mark_means_nothing(service: Any) -> None:
    (one,) = write(GOOD)
    for body, kind in [(one, "application/json"), (b"[" + one + b"]", "application/json"), (one + b"\n" + one, NDJSON)]:
        assert service.post(b"\xef\xbb\xbf" + body, Content_Type=kind).status == 201


def test_who_sends_lines_by_curl_without_their_ends_is_told_the_remedy(service: Any) -> None:
    joined = service.post(b"".join(write(GOOD, GOOD)), Content_Type=NDJSON)
    form = service.post(b"".join(write(GOOD)), Content_Type="application/x-www-form-urlencoded")
    assert (joined.status, form.status) == (422, 415)
    assert "--data-binary" in joined.json()["errors"][0]["detail"]
    assert "--data-binary" in form.json()["detail"]


DIRTY: dict[str, Any] = {
    "a long message": GOOD | {"message": "head " + "x" * 9_000 + " tail"},
    "an empty message": GOOD | {"message": ""},
    "NUL": GOOD | {"message": "a\0b", "data": {"k\0": ["\0"]}},
    "half a pair": GOOD | {"data": {"f": "x\udcff"}},
    "a clock that is wrong": GOOD | {"occurredAt": "2222-01-01T00:00:00Z"},
    "long names": GOOD | {"environment": "", "component": "c" * 200},
    "no UTF-8": json.dumps(GOOD | {"message": "caf?"}).encode().replace(b"?", b"\xe9"),
    "numbers": GOOD | {"data": [float("nan"), 10**400]},
    "too deep": GOOD | {"data": json.loads("[" * 30 + "]" * 30)},
    "much data": GOOD | {"data": {"a": "x" * 70_000, "b": 1}},
    "long text as data": GOOD | {"data": "\u0001" * 70_000},
    "keys given twice": json.dumps(GOOD | {"data": 0}).encode().replace(b'"data": 0', b'"data": {"a": 1, "a": 2}'),
}


@pytest.mark.parametrize("name", DIRTY)
def test_what_is_refused_for_its_text_can_be_stored_marked(service: Any, name: str) -> None:
    """Refused as it is; with sanitize=true changed, with what was wrong in data.sanitized."""
    refused = service.post(DIRTY[name])
    assert refused.status in {400, 422}
    answer = service.post(DIRTY[name], "?sanitize=true")
    assert answer.status == 201
    marks = answer.json()["data"]["sanitized"]
    if refused.status == 422:
        assert marks == refused.json()["errors"][:5]
    else:
        assert "not valid UTF-8" in marks[0]["detail"]
    several = service.post(b"\n".join(write(GOOD, DIRTY[name])), "?partial=true", Content_Type=NDJSON).json()
    assert (several["count"], several["rejected"], several["sanitized"]) == (2, 0, 1)
    exact = service.post(
        b"\n".join(write(GOOD, DIRTY[name])), "?partial=true&sanitize=false", Content_Type=NDJSON
    ).json()
    assert (exact["count"], exact["rejected"]) == (1, 1)


def test_what_was_changed_keeps_what_matters(service: Any) -> None:
    def stored(name: str) -> Any:
        return service.post(DIRTY[name], "?sanitize=true").json()

    long = stored("a long message")["message"]
    assert len(long) <= 8_191
    assert long.startswith("head xxx")
    assert long.endswith("xxx tail")
    assert "of 9,010 characters cut out" in long
    assert stored("an empty message")["message"] == "(empty)"
    assert stored("NUL")["message"] == "a\ufffdb"
    assert stored("NUL")["data"]["k\ufffd"] == ["\ufffd"]
    assert stored("no UTF-8")["message"] == "caf\ufffd"
    assert stored("numbers")["data"]["value"][0] == "NaN"
    assert stored("much data")["data"]["b"] == 1


@pytest.mark.parametrize(
    "bad", [GOOD | {"mesage": "a\0"}, GOOD | {"email": "a\0"}, {"message": ""}, b'{"a":1,"a":2}', b"["]
)
def test_mistakes_stay_errors(service: Any, bad: Any) -> None:
    """Only characters, lengths and numbers are sanitized: a wrong field or address is a mistake that must be seen."""
    assert service.post(bad, "?sanitize=true").status in {400, 422}
