"""All kinds of problems: status, title and advice. docs/problems.md is generated from this file."""

from __future__ import annotations

from dataclasses import dataclass

from eventsvc import errors

PAGE = "/problems"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes:
        slug: the last part of its type URL, and its heading in docs/problems.md.
        title: the same text for every occurrence.
        advice: what the problem means, and what to do.
        retry_after: seconds until another try; 0 if the same request would fail again.
    """

    slug: str
    status: int
    title: str
    advice: str
    retry_after: int = 0

    @property
    def type(self) -> str:
        """The URL of the problem's section at /problems."""
        return f"{PAGE}#{self.slug}"


_NOT_STORED = "Nothing was stored; send the same again after Retry-After seconds."
_WORKER = (
    "The log is distributed over several servers. The events of the lost server can be neither read nor written until"
    f" it is back. Requests that need only other servers succeed, such as those for another component. {_NOT_STORED}"
)

_UNAUTHORIZED = Problem(
    "unauthorized",
    401,
    "A key is needed",
    "Send an API key as `Authorization: Bearer ev_…`, or as the password of HTTP Basic. `eventsvc admin keys create`"
    " makes one. A key that is unknown, was taken back or has expired is answered in the same way.",
)
_FORBIDDEN = Problem(
    "forbidden",
    403,
    "The API key does not allow this",
    "`detail` says which right is missing; or an event lies outside of what the key may see. Nothing was stored.",
)
_TOO_MANY = Problem(
    "too-many-requests",
    429,
    "Too many requests",
    "The API key, or the address, has asked more than it may. Send the same again after Retry-After seconds."
    " `RateLimit` says how many more requests are allowed at once.",
)

# The problem of each exception; the nearest base class in this table counts.
PROBLEMS: dict[type[Exception], Problem] = {
    errors.QueryError: Problem(
        "invalid-query",
        400,
        "The query cannot be understood",
        "`offset`, `line` and `column` say where, `excerpt` shows it with a caret under the place, `expected` lists"
        " what could stand there, and `hint` knows the usual mistakes. GET /query?q= explains a query.",
    ),
    errors.InvalidEvents: Problem(
        "invalid-event",
        422,
        "An event breaks a rule",
        "`errors` names each fault: `pointer` (RFC 6901) is the place in the event, `detail` the rule, and `line` the"
        " line or position in a request with many events. Up to 20 faults are named; `total` counts all. Of many"
        " events, no more are read than the first 20 bad ones. Nothing was stored. With `partial=true` the good events"
        " are stored, and with `sanitize=true` events with bad characters or lengths as well, changed and marked."
        " With `shape=any` the fields of other loggers are put where they belong.",
    ),
    errors.UnsupportedMediaType: Problem(
        "unsupported-media-type",
        415,
        "The body is of a type that is not understood",
        "Send `application/json` (one event or an array) or `application/x-ndjson` (one event a line), in UTF-8,"
        " plain or with Content-Encoding gzip or zstd. With `shape=any`, `text/plain` is taken as well, a record"
        " a line, but not from a page in a browser.",
    ),
    errors.BodyTooLarge: Problem(
        "too-large",
        413,
        "The body is too large",
        "One event may be 1 MiB, a request with many 64 MiB (packed and unpacked) and 100,000 events, and reading"
        " them may take a minute, unless settings say otherwise. Send less at a time. Nothing was stored.",
    ),
    errors.InvalidBody: Problem(
        "invalid-body",
        400,
        "The body cannot be read",
        "It is not JSON, not UTF-8, not whole, or not what its Content-Encoding says. `detail` tells what and where."
        " Nothing was stored.",
    ),
    errors.InvalidParameter: Problem(
        "invalid-parameter",
        400,
        "A parameter has an impossible value",
        "`parameter` names the query parameter or header, `detail` says what it may be.",
    ),
    errors.KeyReused: Problem(
        "key-reused",
        422,
        "The Idempotency-Key came before with another body",
        "A key stands for one request, for 24 hours. Take a new key for every new request. Nothing was stored.",
    ),
    errors.SeqNotReached: Problem(
        "seq-not-reached",
        422,
        "The log has not reached this seq",
        "`asOf` names a seq that no event has yet. The newest one is `Eventsvc-Watermark` plus `Eventsvc-Lag` of an"
        " answer. A link that is older than a restored log may name one as well.",
    ),
    errors.KeyRunning: Problem(
        "key-running",
        409,
        "A request with this Idempotency-Key is still running",
        "Send the same again after Retry-After seconds: it gets the answer of the first.",
        1,
    ),
    errors.Unauthenticated: _UNAUTHORIZED,
    errors.Forbidden: _FORBIDDEN,
    errors.TooManyRequests: _TOO_MANY,
    errors.EventGone: Problem(
        "event-gone",
        410,
        "It was stored once, and has been erased since",
        "The Idempotency-Key is known, and what was stored under it was erased. Do not send it again.",
    ),
    errors.EventsHeld: Problem(
        "events-held",
        409,
        "A hold keeps some of these events",
        "Nothing was erased. `holds` names each hold and how many of the events it keeps. Narrow the query, or have the"
        " hold released (`eventsvc admin retention release NAME`).",
    ),
    errors.ErasureNotFound: Problem(
        "erasure-not-found",
        404,
        "There is no such erasure",
        "No erasure has this id. GET /erasure lists the newest ones.",
    ),
    errors.KeyNotFound: Problem(
        "key-not-found",
        404,
        "There is no such API key",
        "No good key has this id: it never was, was taken back, or has expired. GET /key lists all.",
    ),
    errors.ViewNotFound: Problem(
        "view-not-found",
        404,
        "There is no such view",
        "No view has this name: it never was saved, or was removed. GET /view lists all.",
    ),
    errors.InvalidInput: Problem("invalid-input", 400, "The request cannot be used", "`detail` says why."),
    errors.EventNotFound: Problem(
        "event-not-found",
        404,
        "There is no such event",
        "No event has this id: there never was one, or it was erased.",
    ),
    errors.CommitUnknown: Problem(
        "commit-unknown",
        503,
        "It is not known whether the event was stored",
        "The connection to PostgreSQL broke while it committed. Send the same again: with the same Idempotency-Key it"
        " is stored at most once, without one it may be stored twice.",
        1,
    ),
    errors.WriteQueueFull: Problem(
        "write-queue-full",
        503,
        "Too many events wait to be written",
        f"The service is at its limit, or stopping, or its disk is full. {_NOT_STORED}",
        1,
    ),
    errors.SearchesQueued: Problem(
        "searches-queued",
        503,
        "Too many heavy searches wait",
        "Searches that the index cannot answer run in PostgreSQL, a few at a time; those that look for many substrings"
        " in data or in short fields run in the index one at a time. Pages of more than 50 events are read a few at a"
        " time. Send the same again after Retry-After seconds, or make the query lighter or the page smaller.",
        2,
    ),
    errors.QueriesQueued: Problem(
        "queries-queued",
        503,
        "Too many long queries wait to be read",
        "Queries of more than 256 characters are read one after the other, and 32 may wait. Send the same again after"
        " Retry-After seconds; in (...) is read faster than many comparisons joined by OR.",
        1,
    ),
    errors.LogTimeout: Problem(
        "log-timeout",
        503,
        "PostgreSQL did not answer in time",
        "A search took too long: make its time range or its result smaller. Or a write did not get its turn:"
        f" something holds a lock. {_NOT_STORED}",
        5,
    ),
    errors.WorkerUnavailable: Problem("worker-unavailable", 503, "A server of the log does not answer", _WORKER, 5),
    errors.LogUnavailable: Problem("log-unavailable", 503, "PostgreSQL cannot be reached", _NOT_STORED, 2),
    errors.LogError: Problem(
        "log-error",
        503,
        "PostgreSQL could not do what was asked",
        f"The service's own log knows more. {_NOT_STORED}",
        5,
    ),
    errors.IndexUnavailable: Problem(
        "index-unavailable",
        503,
        "The index cannot answer",
        "Elasticsearch cannot give a whole answer now. Storing is not affected. Ask again after Retry-After seconds.",
        5,
    ),
}
PROBLEMS[errors.UnknownProtocol] = PROBLEMS[errors.UnsupportedMediaType]

INTERNAL = Problem(
    "internal-error",
    500,
    "Something went wrong in the service",
    "This is a fault of the service, not of the request. Its own log has the cause.",
)

# The problems of errors that the framework raises, by status.
BY_STATUS: dict[int, Problem] = {
    problem.status: problem
    for problem in (
        Problem("bad-request", 400, "Bad Request", "The request breaks the rules of HTTP, or a header cannot be read."),
        _UNAUTHORIZED,
        _FORBIDDEN,
        Problem("no-such-route", 404, "Not Found", "Nothing is served at this path; /openapi.json lists what is."),
        Problem("method-not-allowed", 405, "Method Not Allowed", "The header Allow lists the methods of this path."),
        Problem("not-acceptable", 406, "Not Acceptable", "The answer cannot be given in a type that Accept names."),
        Problem(
            "request-timeout",
            408,
            "Request Timeout",
            "The head or the body of the request came too slowly. Nothing was stored; send it again, in smaller parts"
            " if the line is slow.",
        ),
        Problem("uri-too-long", 414, "URI Too Long", "Send the query in the body of QUERY /event instead."),
        _TOO_MANY,
        Problem(
            "head-too-large",
            431,
            "Request Header Fields Too Large",
            "A request may have 100 header fields with 64 KiB in all. Send fewer or shorter ones.",
        ),
        Problem(
            "not-implemented",
            501,
            "Not Implemented",
            "The request uses a part of HTTP that the service lacks; `detail` names it.",
        ),
        Problem("http-version", 505, "HTTP Version Not Supported", "Send HTTP/1.1, or HTTP/1.0."),
        Problem(
            "too-many-connections",
            503,
            "Too Many Connections",
            "The process serves as many connections as it may. Come back after Retry-After seconds; reuse connections.",
            1,
        ),
    )
}


def all_problems() -> list[Problem]:
    """List all kinds of problems by status and slug."""
    return sorted({*PROBLEMS.values(), *BY_STATUS.values(), INTERNAL}, key=lambda one: (one.status, one.slug))


def render_markdown() -> str:
    """Write docs/problems.md."""
    return _INTRODUCTION + "".join(
        f"\n## {one.slug}\n\n**{one.status} {one.title}.** {one.advice}\n" for one in all_problems()
    )


_INTRODUCTION = """# Problems

Every error is answered as `application/problem+json` (RFC 9457). `type` is a URL that leads here (the service answers
`GET /problems` with this page), `title` is the same for all of its kind, and `detail` says what happened this time.

<!-- made by `python -m eventsvc.api.problem_types > docs/problems.md`; a test compares -->
"""

if __name__ == "__main__":
    print(render_markdown(), end="")  # noqa: T201
