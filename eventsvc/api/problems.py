"""Exception → RFC 9457 problem: the only map from errors to status codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import falcon
import orjson
import structlog

from eventsvc import errors
from eventsvc.query.excerpt import render_excerpt

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
DOCS = "/problems"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes:
        slug: the last part of its type URL, and the heading in docs/problems.md.
        title: the same text for every occurrence.
        retry_after: seconds; 0 when sending the same again would not help.
    """

    slug: str
    status: int
    title: str
    retry_after: int = 0

    @property
    def type(self) -> str:
        """A URL that leads to its section of the docs."""
        return f"{DOCS}#{self.slug}"


# Most specific first where one class derives from another.
PROBLEMS: dict[type[Exception], Problem] = {
    errors.QueryError: Problem("invalid-query", 400, "The query cannot be understood"),
    errors.InvalidEvents: Problem("invalid-event", 422, "An event breaks a rule"),
    errors.UnsupportedMediaType: Problem("unsupported-media-type", 415, "The body is of a type that is not understood"),
    errors.BodyTooLarge: Problem("too-large", 413, "The body is too large"),
    errors.InvalidBody: Problem("invalid-body", 400, "The body cannot be read"),
    errors.InvalidParameter: Problem("invalid-parameter", 400, "A parameter has an impossible value"),
    errors.KeyReused: Problem("key-reused", 422, "The Idempotency-Key came before with another body"),
    errors.KeyRunning: Problem("key-running", 409, "A request with this Idempotency-Key is still running", 1),
    errors.EventGone: Problem("event-gone", 410, "It was stored once, and has been erased since"),
    errors.InvalidInput: Problem("invalid-input", 400, "The request cannot be used"),
    errors.EventNotFound: Problem("event-not-found", 404, "There is no such event"),
    errors.CommitUnknown: Problem("commit-unknown", 503, "It is not known whether the event was stored", 1),
    errors.WriteQueueFull: Problem("write-queue-full", 503, "Too many events wait to be written", 1),
    errors.LogTimeout: Problem("log-timeout", 503, "PostgreSQL did not answer in time", 5),
    errors.LogUnavailable: Problem("log-unavailable", 503, "PostgreSQL cannot be reached", 2),
    errors.LogError: Problem("log-error", 503, "PostgreSQL could not do what was asked", 5),
    errors.IndexUnavailable: Problem("index-unavailable", 503, "The index cannot answer", 5),
}
INTERNAL = Problem("internal-error", 500, "Something went wrong in the service")


def install(app: App[Request, Response]) -> None:
    """Make every error of this app an RFC 9457 problem."""
    app.add_error_handler(Exception, _handle_unexpected)
    app.add_error_handler(errors.EventsvcError, _handle_ours)
    app.add_error_handler(falcon.HTTPError, _handle_falcon)


async def _handle_ours(_req: Request, resp: Response, exc: errors.EventsvcError, _params: dict[str, Any]) -> None:
    problem = next((PROBLEMS[cls] for cls in type(exc).__mro__ if cls in PROBLEMS), INTERNAL)
    if problem.status >= 500:  # noqa: PLR2004
        _log.warning("a request could not be served", problem=problem.slug, reason=str(exc))
    _answer(resp, problem, str(exc), _extensions(exc))


async def _handle_falcon(_req: Request, resp: Response, exc: falcon.HTTPError, _params: dict[str, Any]) -> None:
    title = exc.title or str(exc.status)
    problem = Problem(_slug(exc.status_code), exc.status_code, title.removeprefix(f"{exc.status_code} "))
    if exc.headers:
        resp.set_headers(exc.headers)
    _answer(resp, problem, exc.description or "", {})


async def _handle_unexpected(req: Request, resp: Response, exc: Exception, _params: dict[str, Any]) -> None:
    _log.error("unexpected error", method=req.method, route=req.uri_template, exc_info=exc)
    _answer(resp, INTERNAL, "The cause is in the service's log.", {})


def _answer(resp: Response, problem: Problem, detail: str, extensions: dict[str, Any]) -> None:
    body = {"type": problem.type, "title": problem.title, "status": problem.status}
    if detail:
        body["detail"] = detail
    resp.status = problem.status
    resp.content_type = MEDIA_TYPE
    resp.text = resp.stream = resp.sse = None
    resp.data = orjson.dumps(body | extensions)
    if problem.retry_after:
        resp.set_header("Retry-After", str(problem.retry_after))


_SLUGS = {404: "no-such-route", 405: "method-not-allowed", 413: "too-large", 415: "unsupported-media-type"}


def _slug(status: int) -> str:
    return _SLUGS.get(status, f"http-{status}")


def _extensions(exc: errors.EventsvcError) -> dict[str, Any]:
    match exc:
        case errors.InvalidEvents():
            return {"errors": [_fault(fault) for fault in exc.faults], "total": exc.total}
        case errors.InvalidParameter():
            return {"parameter": exc.name}
        case errors.QueryError():
            return _query_place(exc)
    return {}


def _fault(fault: errors.Fault) -> dict[str, Any]:
    place: dict[str, Any] = {} if fault.line is None else {"line": fault.line}
    return place | {"pointer": fault.pointer, "detail": fault.detail}


def _query_place(exc: errors.QueryError) -> dict[str, Any]:
    return {
        "offset": exc.offset,
        "line": exc.line,
        "column": exc.column,
        "excerpt": render_excerpt(exc),
        "expected": list(exc.expected),
        "hint": exc.hint,
    }
