"""Answer every exception with a problem (RFC 9457)."""

from __future__ import annotations

import re
import uuid
from html import escape
from typing import TYPE_CHECKING, Any

import falcon
import orjson
import structlog

from eventsvc import errors
from eventsvc.api.problem_types import BY_STATUS, INTERNAL, PAGE, PROBLEMS, Problem, all_problems
from eventsvc.incoming.names import NO_OTLP
from eventsvc.query.mistakes import render_excerpt

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response

_logger = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
MEDIA_TYPE = "application/problem+json"
_NO_ROUTE = "Nothing is served at this path. POST /event stores events, GET /event finds them. /openapi.json lists all."
_OTLP_ROUTE = "/v1/logs"


def install(app: App[Request, Response]) -> None:
    """Make the app answer every error with a problem (RFC 9457)."""
    app.add_error_handler(Exception, _handle_unexpected)
    app.add_error_handler(errors.EventsvcError, _handle_ours)
    app.add_error_handler(falcon.HTTPError, _handle_falcon)
    app.add_route(PAGE, _Page())


class _Page:
    """The resource of /problems, to which the type of every problem points."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer with the text of docs/problems.md as one page of HTML."""
        resp.content_type = falcon.MEDIA_HTML
        resp.text = _render_page()


def _render_page() -> str:
    sections = (
        f'<h2 id="{one.slug}">{one.slug}</h2><p><b>{one.status} {escape(one.title)}.</b> {escape(one.advice)}</p>'
        for one in all_problems()
    )
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>Problems</title>{''.join(sections)}"


def problem_of(exc: errors.EventsvcError) -> Problem:
    """Give the kind of problem that an error is."""
    return next((PROBLEMS[cls] for cls in type(exc).__mro__ if cls in PROBLEMS), INTERNAL)


async def _handle_ours(req: Request, resp: Response, exc: errors.EventsvcError, _params: dict[str, Any]) -> None:
    problem = problem_of(exc)
    extensions = _extensions(exc)
    if problem.status >= 500:  # noqa: PLR2004
        extensions["requestId"] = _identify(req, resp)
        _logger.warning(
            "a request could not be served",
            problem=problem.slug,
            reason=str(exc),
            request_id=extensions["requestId"],
        )
    _answer(req, resp, problem, exc.public, extensions)


async def _handle_falcon(req: Request, resp: Response, exc: falcon.HTTPError, _params: dict[str, Any]) -> None:
    problem = BY_STATUS.get(exc.status_code) or _unlisted(exc)
    if exc.headers:
        resp.set_headers(exc.headers)
    _answer(req, resp, problem, exc.description or _explain(req, exc), {})


def _explain(req: Request, exc: falcon.HTTPError) -> str:
    """Say what can be asked instead of a path or a method that is not served."""
    allowed = dict(exc.headers or {}).get("Allow", "")
    if exc.status_code == 405 and allowed:  # noqa: PLR2004
        return f"{req.method} is not served at this path; {allowed} are. POST /event stores events."
    if exc.status_code != 404:  # noqa: PLR2004
        return ""
    return f"This is {NO_OTLP}." if req.path == _OTLP_ROUTE else _NO_ROUTE


def _unlisted(exc: falcon.HTTPError) -> Problem:
    """Find or make the problem of a status that is not in BY_STATUS."""
    for problem in all_problems():
        if problem.status == exc.status_code:
            return problem
    return Problem("about", exc.status_code, exc.title.removeprefix(f"{exc.status_code} "), "")


async def _handle_unexpected(req: Request, resp: Response, exc: Exception, _params: dict[str, Any]) -> None:
    request_id = _identify(req, resp)
    _logger.error("unexpected error", method=req.method, route=req.uri_template, request_id=request_id, exc_info=exc)
    _answer(req, resp, INTERNAL, "The cause is in the service's log.", {"requestId": request_id})


def _identify(req: Request, resp: Response) -> str:
    """Give the request an id for our own log: the id that a proxy has sent, or a new one."""
    given = req.get_header("X-Request-Id") or ""
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    resp.set_header("X-Request-Id", request_id)
    return request_id


def _answer(req: Request, resp: Response, problem: Problem, detail: str, extensions: dict[str, Any]) -> None:
    body = {"type": req.scope.get("root_path", "") + problem.type, "title": problem.title, "status": problem.status}
    if detail:
        body["detail"] = detail
    resp.status = problem.status
    resp.content_type = MEDIA_TYPE
    resp.text = resp.stream = resp.sse = None
    resp.data = orjson.dumps(body | extensions)
    if problem.retry_after:
        resp.set_header("Retry-After", str(problem.retry_after))


def _extensions(exc: errors.EventsvcError) -> dict[str, Any]:
    match exc:
        case errors.InvalidEvents():
            return {"errors": [_fault(fault) for fault in exc.faults], "total": exc.total}
        case errors.EventsHeld():
            return {"holds": [{"hold": name, "count": count} for name, count in exc.holds]}
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
