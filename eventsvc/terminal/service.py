"""Talk to a service over HTTP: find the address, send requests, turn problem documents into errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from eventsvc import connection_file
from eventsvc.errors import EventsvcError, SetupError

if TYPE_CHECKING:
    import urllib3  # loaded late: urllib3 takes as long to load as the rest of the command line

_DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT, _READ = 5.0, 60.0  # seconds
_SUCCESS = range(200, 300)


class ServiceError(EventsvcError):
    """The service cannot be reached, or refuses the request. The text may have several lines, for a terminal.

    Attributes:
        status: the status of the answer; 0 if there is no answer.
        problem: the type of the problem, such as "key-reused"; "" if the answer names none.
    """

    def __init__(self, text: str, *, status: int = 0, problem: str = "") -> None:
        self.status, self.problem = status, problem
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a service, and the key for requests.

    Attributes:
        url: the address, without a slash at the end.
        key: an API key; "" for none.
    """

    url: str
    key: str = ""


def find_target(url: str | None, key: str | None, data: str | None) -> Target:
    """Find the service: an option, EVENTSVC_URL, the connection file of a development server, the default port.

    Raises:
        ServiceError: a data folder is named, but no development server runs with this folder.
    """
    found = url or os.environ.get("EVENTSVC_URL")
    if not found:
        try:
            found = connection_file.read(data).get("EVENTSVC_URL", _DEFAULT_URL)
        except SetupError as exc:
            raise ServiceError(str(exc)) from exc
    return Target(found.rstrip("/"), key or os.environ.get("EVENTSVC_KEY", ""))


class Service:
    """Sends requests to one service."""

    def __init__(self, target: Target, *, patience: float = _READ) -> None:
        """Prepare, without a request. ``patience`` is the number of seconds that an answer may take."""
        import urllib3

        self._target = target
        timeout = urllib3.Timeout(connect=min(_CONNECT, patience), read=patience)
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout)
        self._headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}

    @property
    def url(self) -> str:
        """The address of the service."""
        return self._target.url

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """Send a GET request, and give the JSON of the answer.

        Raises:
            ServiceError: the service is away, or refuses the request.
        """
        return json.loads(self.request("GET", path, parameters).data)

    def request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request, and give the answer.

        Args:
            method: the HTTP method.
            path: a path that begins with a slash; also a path with parameters, as in a Link header.
            parameters: the parameters of the query string.
            body: the body of the request.
            headers: headers in addition to the key.
            stream: True to leave the body of the answer unread, for the caller to read in pieces.

        Raises:
            ServiceError: the service is away, or the answer is not a success.
        """
        target = self._target.url + path + (f"?{urlencode(parameters)}" if parameters else "")
        with _errors(self._target.url):
            answer = self._pool.request(
                method, target, body=body, headers={**self._headers, **(headers or {})}, preload_content=not stream
            )
            if answer.status not in _SUCCESS:
                problem = _read_problem(answer)
                kind = str(problem.get("type", "")).rpartition("#")[2]
                raise ServiceError(_explain(problem, answer.status), status=answer.status, problem=kind)
        return answer

    def lines(self, path: str, parameters: Mapping[str, str], accept: str) -> Iterator[bytes]:
        """Give the lines of a streamed answer as they come.

        Raises:
            ServiceError: as in ``request``; or the answer breaks off.
        """
        answer = self.request("GET", path, parameters, headers={"Accept": accept}, stream=True)
        try:
            yield from read_lines(answer, self._target.url)
        finally:
            answer.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


def read_lines(answer: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
    """Split a streamed body into lines, without line ends."""
    rest = b""
    with _errors(url):
        while chunk := answer.read1(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r")
    if rest:
        yield rest


@contextmanager
def _errors(url: str) -> Iterator[None]:
    import urllib3

    try:
        yield
    except urllib3.exceptions.HTTPError as exc:
        hint = "is it running? Name another one with --url or EVENTSVC_URL"
        raise ServiceError(f"the service at {url} does not answer ({type(exc).__name__}): {hint}") from exc


def _read_problem(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """Read the problem document (RFC 9457) of an answer; {} if the body is none."""
    try:
        problem = json.loads(answer.data)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) and "title" in problem else {}


def _explain(problem: dict[str, Any], status: int) -> str:
    """Write a problem document as text: the detail, the place in the query, the hint."""
    if not problem:
        return f"the service answered {status}"
    lines = [f"{problem.get('detail') or problem['title']} ({status})"]
    if excerpt := problem.get("excerpt"):
        lines += ["", *str(excerpt).splitlines()]
    if hint := problem.get("hint"):
        lines += ["", f"hint: {hint}"]
    for fault in problem.get("errors", [])[:5]:
        place = f"line {fault['line']} " if "line" in fault else ""
        lines.append(f"  {place}{fault.get('pointer', '')}: {fault.get('detail', '')}")
    return "\n".join(lines)
