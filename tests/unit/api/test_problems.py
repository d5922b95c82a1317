"""Whatever goes wrong becomes a problem of RFC 9457, and tells no more than it should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import falcon
import pytest
from falcon.asgi import App, Request, Response
from falcon.testing import TestClient

from eventsvc import errors
from eventsvc.api import problems
from eventsvc.api.problem_types import PROBLEMS, all_problems, render_markdown
from eventsvc.errors import Fault

_FAULTS = (Fault("/email", "is required", 3), Fault("", "is too long"))


class _Raises:
    def __init__(self) -> None:
        self.error: Exception = RuntimeError()

    async def on_get(self, _req: Request, resp: Response) -> None:
        resp.text = "half an answer"
        raise self.error


@pytest.fixture
def ask() -> Any:
    resource = _Raises()
    app: App[Request, Response] = App()
    problems.install(app)
    app.add_route("/raise", resource)
    client = TestClient(app)

    def ask(error: Exception | None = None, path: str = "/raise", method: str = "GET") -> Any:
        resource.error = error or RuntimeError()
        return client.simulate_request(method, path)

    return ask


@pytest.mark.parametrize(
    ("error", "status", "slug", "extension"),
    [
        (
            errors.QueryError("no", text="a = 1", offset=2, expected=("eq",), hint="say eq"),
            400,
            "invalid-query",
            {"offset": 2, "line": 1, "column": 3, "expected": ["eq"], "hint": "say eq", "excerpt": "a = 1\n  ^"},
        ),
        (
            errors.InvalidEvents(_FAULTS, total=7),
            422,
            "invalid-event",
            {
                "errors": [
                    {"line": 3, "pointer": "/email", "detail": "is required"},
                    {"pointer": "", "detail": "is too long"},
                ],
                "total": 7,
            },
        ),
        (errors.InvalidParameter("limit", "is a number"), 400, "invalid-parameter", {"parameter": "limit"}),
        (errors.InvalidBody("x"), 400, "invalid-body", {}),
        (errors.BodyTooLarge("x"), 413, "too-large", {}),
        (errors.UnsupportedMediaType("x"), 415, "unsupported-media-type", {}),
        (errors.KeyReused("x"), 422, "key-reused", {}),
        (errors.KeyRunning("x"), 409, "key-running", {}),
        (errors.EventGone("x"), 410, "event-gone", {}),
        (errors.EventNotFound("x"), 404, "event-not-found", {}),
        (errors.CommitUnknown("x"), 503, "commit-unknown", {}),
        (errors.WriteQueueFull("x"), 503, "write-queue-full", {}),
        (errors.LogTimeout("x"), 503, "log-timeout", {}),
        (errors.LogUnavailable("x"), 503, "log-unavailable", {}),
        (errors.SchemaError("x"), 503, "log-error", {}),
        (errors.IndexUnavailable("x"), 503, "index-unavailable", {}),
        (errors.SetupError("x"), 500, "internal-error", {}),
    ],
)
def test_our_errors_have_their_problem(
    ask: Any, error: Exception, status: int, slug: str, extension: dict[str, Any]
) -> None:
    answer = ask(error)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status in {503, 409})
    problem = answer.json
    assert problem.pop("title")
    assert ("requestId" in problem) == (status >= 500)
    assert problem.pop("requestId", None) == answer.headers.get("x-request-id")
    problem.pop("detail", None)
    assert problem == {"type": f"/problems#{slug}", "status": status} | extension


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nowhere", "GET", 404), ("/raise", "POST", 405), ("/raise", "NONSENSE", 400)]
)
def test_the_frameworks_errors_are_problems_too(ask: Any, path: str, method: str, status: int) -> None:
    answer = ask(path=path, method=method)
    assert (answer.status_code, answer.json["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize("error", [falcon.HTTPContentTooLarge(), falcon.HTTPUriTooLong(), falcon.HTTPGone()])
def test_errors_that_the_framework_raises_keep_their_status(ask: Any, error: falcon.HTTPError) -> None:
    answer = ask(error)
    assert answer.status_code == answer.json["status"] == error.status_code


def test_an_unexpected_error_tells_the_client_nothing_and_the_log_everything(ask: Any, capsys: Any) -> None:
    answer = ask(ValueError("secret detail"))
    assert answer.status_code == 500
    assert answer.json["type"] == "/problems#internal-error"
    assert "secret" not in answer.text
    assert "half an answer" not in answer.text
    assert "secret detail" in "".join(capsys.readouterr())


def test_every_type_leads_to_its_section(ask: Any) -> None:
    page = ask(path="/problems").text
    headings = re.findall(r'<h2 id="([a-z0-9-]+)">', page)
    assert headings == [problem.slug for problem in all_problems()]
    assert len(set(headings)) == len(headings)
    assert {problem.slug for problem in PROBLEMS.values()} <= set(headings)


def test_the_document_is_the_table() -> None:
    """Run ``python -m eventsvc.api.problem_types > docs/problems.md`` when this fails."""
    document = Path(__file__).parents[3] / "docs" / "problems.md"
    assert document.read_text(encoding="utf-8") == render_markdown()
