"""Idempotency-Key: at most once, whatever is sent again, by whomever, and when."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventsvc.log.connection import Connection, connect
from eventsvc.log.write import idempotency

GOOD = {
    "email": "a@example.com",
    "environment": "test",
    "component": "keys",
    "message": "once",
    "data": {"b": 1, "a": 2},
}
NDJSON = "application/x-ndjson"
BODY = b"\n".join(json.dumps(GOOD | {"message": f"m {n}"}).encode() for n in range(700))


@pytest.mark.parametrize("key", ["abc", '"abc"', '"8e03978e-40d5-43e8-bc93-6894a57f9324"'])
def test_a_retry_gets_the_first_answer(service: Any, key: str) -> None:
    first, second = (service.post(GOOD, Idempotency_Key=key) for _ in range(2))
    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert first.headers["location"] == second.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert service.count() == 1


def test_quotes_do_not_make_another_key(service: Any) -> None:
    assert service.post(GOOD, Idempotency_Key="k").json() == service.post(GOOD, Idempotency_Key='"k"').json()


def test_a_bulk_retry_gets_the_first_answer(service: Any) -> None:
    headers = {"Content_Type": NDJSON, "Idempotency_Key": "bulk"}
    first, second = (service.post(BODY, **headers) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    full = service.post(BODY, **headers, Prefer="return=representation").json()
    assert [event["message"] for event in full] == [f"m {n}" for n in range(700)]
    assert (full[0]["id"], full[-1]["id"]) == (first.json()["firstId"], first.json()["lastId"])
    assert service.count() == 700


def test_a_partial_retry_names_the_bad_lines_again(service: Any) -> None:
    body = BODY + b"\n{}\n"
    headers = {"Content_Type": NDJSON, "Idempotency_Key": "partial"}
    first, second = (service.post(body, "?partial=true", **headers) for _ in range(2))
    assert first.json() == second.json()
    assert (first.json()["rejected"], service.count()) == (1, 700)


def test_another_body_under_the_same_key_is_refused(service: Any) -> None:
    service.post(GOOD, Idempotency_Key="k")
    for body, kind in [(GOOD | {"message": "other"}, "application/json"), ([GOOD], "application/json")]:
        answer = service.post(body, Idempotency_Key="k", Content_Type=kind)
        assert (answer.status, answer.json()["type"]) == (422, "/problems#key-reused")
    assert service.post(BODY, Content_Type=NDJSON, Idempotency_Key="k").status == 422
    assert service.count() == 1


def test_an_invalid_request_does_not_use_up_its_key(service: Any) -> None:
    assert service.post({}, Idempotency_Key="k").status == 422
    assert service.post(b"{}", Content_Type=NDJSON, Idempotency_Key="k").status == 422
    assert service.post(GOOD, Idempotency_Key="k").status == 201


@pytest.mark.parametrize("kind", ["application/json", NDJSON])
def test_duplicates_at_the_same_time_store_once(service: Any, kind: str) -> None:
    body = json.dumps(GOOD).encode() if kind == "application/json" else BODY

    def send(number: int) -> Any:
        return service.post(body, Content_Type=kind, Idempotency_Key=f"key {number % 4}")

    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(send, range(48)))
    assert {answer.status for answer in answers} <= {201, 409}
    stored = {answer.json().get("id") or answer.json()["firstId"] for answer in answers if answer.status == 201}
    assert len(stored) == 4
    assert service.count() == (4 if kind == "application/json" else 2800)


def test_a_key_that_is_still_running_is_told_so(service: Any) -> None:
    other = connect(service.dsn)
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            lock = idempotency.lock_of(idempotency.key_hash("busy"))
            cursor.execute(idempotency.LOCK, ([lock],))
            assert idempotency.read_locks(cursor) == {lock}
            for body, kind in [(json.dumps(GOOD).encode(), "application/json"), (BODY, NDJSON)]:
                answer = service.post(body, Content_Type=kind, Idempotency_Key="busy")
                assert (answer.status, answer.json()["type"]) == (409, "/problems#key-running")
                assert answer.headers["retry-after"] == "1"
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert service.post(GOOD, Idempotency_Key="busy").status == 201


def test_what_was_erased_is_gone(service: Any) -> None:
    service.post(GOOD, Idempotency_Key="one")
    headers = {"Content_Type": NDJSON, "Idempotency_Key": "many"}
    service.post(BODY, **headers)
    service.rows("DELETE FROM event WHERE message IN ('once', 'm 13') RETURNING 1")
    assert service.post(GOOD, Idempotency_Key="one").status == 410
    assert service.post(BODY, **headers, Prefer="return=representation").status == 410
    assert service.post(BODY, **headers).status == 201  # holds no content
    assert service.count() == 699


def test_no_content_and_no_key_is_kept(service: Any) -> None:
    service.post(GOOD, Idempotency_Key="my secret key")
    ((row,),) = service.rows("SELECT row_to_json(idempotency_key)::text FROM idempotency_key")
    for text in ("secret", "once", "a@example.com", b"my secret key".hex()):
        assert text not in row


def test_keys_are_kept_for_a_day(service: Any) -> None:
    service.post(GOOD, Idempotency_Key="old")
    service.post(GOOD, Idempotency_Key="new")
    service.rows(
        "UPDATE idempotency_key SET kept_at = now() - interval '25 hours' WHERE key_hash = %s RETURNING 1",
        idempotency.key_hash("old"),
    )
    again = service.post(GOOD | {"message": "another"}, Idempotency_Key="old")
    assert (again.status, again.headers.get("idempotency-replayed")) == (201, None)
    assert service.post(GOOD | {"message": "another"}, Idempotency_Key="old").headers["idempotency-replayed"] == "true"
    service.rows(
        "UPDATE idempotency_key SET kept_at = now() - interval '25 hours' WHERE key_hash = %s RETURNING 1",
        idempotency.key_hash("new"),
    )
    connection: Connection = connect(service.dsn)
    try:
        assert idempotency.prune(connection) == 1
    finally:
        connection.close()
    assert service.rows("SELECT count(*) FROM idempotency_key") == [(1,)]


def test_keys_outlive_the_service(service: Any, make_service: Any) -> None:
    first = service.post(GOOD, Idempotency_Key="before")
    other = make_service(service.dsn)
    assert other.post(GOOD, Idempotency_Key="before").json() == first.json()


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "tab\there"])
def test_a_key_is_short_printable_text(service: Any, key: str) -> None:
    answer = service.post(GOOD, Idempotency_Key=key)
    assert (answer.status, answer.json().get("parameter")) == (400, "Idempotency-Key")
