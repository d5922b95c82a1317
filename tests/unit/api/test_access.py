"""No route is forgotten at the door, and no query misses what its key may see."""

from __future__ import annotations

import re
from pathlib import Path

from falcon import inspect

import eventsvc.api
from eventsvc.api.access import ROUTES
from eventsvc.app import create_app
from eventsvc.settings import load


def test_every_route_of_the_app_declares_the_right_it_needs() -> None:
    """A route that is missing in ROUTES is the administrator's; the matrix in tests/integration/access tries each."""
    routes = {
        (route.path, method.method)
        for route in inspect.inspect_routes(create_app(load({})))
        for method in route.methods
        if not method.internal and method.method not in {"HEAD", "OPTIONS"}
    }

    assert {(route, method) for route, methods in ROUTES.items() for method in methods} == routes


def test_no_resource_compiles_a_query_by_itself() -> None:
    """``visible`` and ``restricted`` in access.py add what the key may see; other makers of a query would forget it."""
    makers = r"\b(compile_query|EVERYTHING|Compiled\(|Filter\()"
    files = [path for path in Path(next(iter(eventsvc.api.__path__))).glob("*.py") if path.name != "access.py"]

    assert files
    assert [] == [path.name for path in files if re.search(makers, path.read_text(encoding="utf-8"))]
