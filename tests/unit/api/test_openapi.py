"""The API's description of itself: complete, valid, and of the same names as what validates."""

from __future__ import annotations

import re

import pytest
from openapi_spec_validator import validate

from eventsvc.api import stats
from eventsvc.api.access import ROUTES
from eventsvc.api.openapi import OPERATIONS, build
from eventsvc.api.openapi_html import render_html
from eventsvc.api.openapi_parts import PARAMETERS, SCHEMAS
from eventsvc.api.problem_types import all_problems
from eventsvc.event import NewEvent

PAGE = {("/", "GET"), ("/page/{name}", "GET")}


def test_it_is_valid_openapi() -> None:
    validate(build())


def test_every_route_is_described() -> None:
    """A new route gets its entry in OPERATIONS; the files of the page are not part of the API."""
    routes = {(route, method) for route, methods in ROUTES.items() for method in methods if method != "QUERY"}

    assert routes - PAGE == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted({name for op in OPERATIONS.values() for name in op.parameters}))
def test_every_parameter_is_described(name: str) -> None:
    """A new parameter gets its sentence and schema in PARAMETERS."""
    assert name in PARAMETERS
    assert PARAMETERS[name][0]


def test_no_parameter_is_described_that_no_route_has() -> None:
    assert set(PARAMETERS) - {name for op in OPERATIONS.values() for name in op.parameters} == set()


def test_the_times_to_count_by_are_those_that_are_taken() -> None:
    assert PARAMETERS["time"][1]["enum"] == list(stats.TIMES)


def test_what_can_be_sent_are_the_fields_of_a_new_event() -> None:
    names = {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name) for name in SCHEMAS["NewEvent"]["properties"]}

    assert set(NewEvent.__struct_fields__) == names


def test_every_problem_is_listed() -> None:
    text = build()["components"]["responses"]["Problem"]["description"]

    assert [] == [problem.slug for problem in all_problems() if problem.type not in text]


def test_the_page_names_every_operation_and_loads_nothing() -> None:
    html = render_html(build())

    assert [] == [route for route, _ in OPERATIONS if route not in html]
    assert [] == re.findall(r"<script|src=|https?://", html)
