"""Views of the page that are kept for everybody: who may save, list, open and remove them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventsvc.access import store
from eventsvc.access.store import Wanted
from eventsvc.log import views

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def ask(world: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Ask with the key of a name: ``ask("reader", "GET", "/view")``."""
    keys = {
        name: store.create(world.connection, Wanted(name, rights, where)).text
        for name, rights, where in (
            ("reader", ["read"], ""),
            ("part", ["read", "write"], "component eq 'mail'"),
            ("other", ["read", "write"], ""),
            ("boss", ["read", "write", "admin"], ""),
        )
    }
    api = request.getfixturevalue("api")

    def call(key: str, method: str, path: str, body: str = "") -> Any:
        return api(method, path, {**JSON, "Authorization": f"Bearer {keys[key]}"}, body)

    return call


def test_a_view_is_saved_for_all_who_may_read_and_changed_by_its_own_key_or_an_administrator(ask: Any) -> None:
    wanted = '{"address": "?q=component+eq+%27orders%27&last=7d"}'
    assert ask("reader", "PUT", "/view/orders", wanted).status_code == 403
    saved = ask("other", "PUT", "/view/orders", wanted)
    assert (saved.status_code, saved.json["savedBy"]) == (200, "other")
    assert saved.json["address"] == "q=component+eq+%27orders%27&last=7d"
    assert ask("reader", "GET", "/view").json == [saved.json]
    assert ask("reader", "GET", "/view/orders").json == saved.json
    # The query of a view may quote what a restricted key may not see.
    assert ask("part", "GET", "/view").json == []
    assert ask("part", "GET", "/view/orders").status_code == 404

    assert ask("part", "PUT", "/view/orders", '{"address": "q=x"}').status_code == 403
    assert ask("part", "DELETE", "/view/orders").status_code == 403
    assert (
        ask("part", "PUT", "/view/%C3%A4%20b", '{"address": ""}').json["name"]
        == "\N{LATIN SMALL LETTER A WITH DIAERESIS} b"
    )
    assert [view["savedBy"] for view in ask("part", "GET", "/view").json] == ["part"]
    assert ask("other", "PUT", "/view/orders", '{"address": "q=y"}').json["address"] == "q=y"
    assert ask("boss", "DELETE", "/view/orders").json == {"removed": "orders"}
    assert [view["savedBy"] for view in ask("reader", "GET", "/view").json] == ["part"]
    for method in ("GET", "DELETE"):
        missing = ask("boss", method, "/view/orders")
        assert (missing.status_code, missing.json["type"]) == (404, "/problems#view-not-found")


def test_what_is_no_view_is_refused_and_views_are_bounded(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, body in (
        ("/view/" + "x" * 81, '{"address": "q=x"}'),
        ("/view/%20x", '{"address": "q=x"}'),
        ("/view/a%00b", '{"address": "q=x"}'),
        ("/view/x", '{"address": "%s"}' % ("x" * 8193)),
        ("/view/x", '{"address": "a\\u0000b"}'),
        ("/view/x", '{"address": 1}'),
        ("/view/x", '{"address": "q=x", "more": 1}'),
        ("/view/x", ""),
    ):
        assert ask("boss", "PUT", path, body).status_code == 400, (path, body)
    monkeypatch.setattr(views, "MOST", 1)
    assert [ask("boss", "PUT", f"/view/{name}", '{"address": ""}').status_code for name in "xxy"] == [200, 200, 400]
