"""Cursors and parameters, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from falcon import testing
from falcon.asgi import Request
from hypothesis import given
from hypothesis import strategies as st

from eventsvc.access.rights import EVERYTHING
from eventsvc.api.find_options import FindOptions, links, read_find_options
from eventsvc.api.stream import make_token, read_token
from eventsvc.errors import InvalidParameter
from eventsvc.search.query_thread import QueryThread

TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
SEQS = st.integers(0, 2**63 - 1)


def request(**parameters: Any) -> Request:
    req = testing.create_asgi_req(path="/event")
    req.context.grant, req.context.query_thread = EVERYTHING, QueryThread()
    req._params = {name: str(value) for name, value in parameters.items()}
    return req


def read(req: Request, body: str | None = None) -> FindOptions:
    return asyncio.run(read_find_options(req, body))


@given(TIMES, SEQS)
def test_a_cursor_leads_back_to_its_position(created_at: int, seq: int) -> None:
    first = read(request(q="message ct 'x'", order="asc"))
    cursor = first.next_cursor((created_at, seq), None)
    second = read(request(q="message ct 'x'", order="asc", cursor=cursor))
    assert (second.request.after, second.now) == ((created_at, seq), first.now)


@given(st.text(max_size=80))
def test_whatever_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read(request(cursor=text))


def test_a_cursor_may_be_used_with_another_limit_and_other_fields() -> None:
    cursor = read(request(limit=5)).next_cursor((1, 2), None)
    assert read(request(limit=9, fields="id", cursor=cursor)).request.after == (1, 2)


def test_links_keep_what_was_asked_for() -> None:
    req = request(q="a & b", limit="5", cursor="old")
    assert links(req, "new") == (
        '</event?q=a+%26+b&limit=5>; rel="first", </event?q=a+%26+b&limit=5&cursor=new>; rel="next"'
    )
    assert links(request(), None) == '</event>; rel="first"'


def test_a_query_in_the_body_and_in_the_url_is_one_too_many() -> None:
    with pytest.raises(InvalidParameter):
        read(request(q="message eq 'a'"), "message eq 'b'")


def test_a_blank_query_matches_everything() -> None:
    assert read(request(q="  ")).query.log.text == "true"


@given(SEQS)
def test_a_stream_token_leads_back_to_its_seq(seq: int) -> None:
    assert read_token(make_token(seq).decode()) == seq


@given(st.text(max_size=40))
def test_whatever_is_no_stream_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_token(text)
