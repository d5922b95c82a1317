"""Fetch a file over HTTP: go on where the last try stopped, and keep nothing whose checksum is wrong."""

from __future__ import annotations

import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from eventsvc.errors import SetupError

_PATIENCE = 30.0  # seconds without a byte
_TRIES = 4  # in a row that bring nothing new
_PAUSE = 1.0  # seconds after the first of them; doubles
_CHUNK = 256 * 1024
_ALGORITHMS = ("sha512", "sha1")  # the strongest that lies beside the file counts
_PLACE = re.compile(r"bytes (\d+)-")

Tell = Callable[[int], None]


class _NotThere(SetupError):
    """The server does not have the file."""


def fetch(url: str, part: Path, tell: Tell) -> None:
    """Fetch a file whose checksum lies beside it, as in a Maven repository.

    Proxies and certificates come from the environment (https_proxy, no_proxy, SSL_CERT_FILE).

    Args:
        url: of the file.
        part: where it goes. A beginning that is there is kept, for the next call also when this one fails.
        tell: told how many bytes are there.

    Raises:
        SetupError: the file cannot be had, or only with a wrong checksum; then it is deleted.
    """
    algorithm, expected = _checksum(url, part)
    begun = part.exists()
    _complete(url, part, tell)
    with part.open("rb") as file:
        right = hashlib.file_digest(file, algorithm).hexdigest() == expected
    if right:
        return
    part.unlink()
    if not begun:
        raise SetupError(f"{url} was fetched and deleted again: its {algorithm} checksum is wrong")
    fetch(url, part, tell)  # the beginning was another file's


def _checksum(url: str, part: Path) -> tuple[str, str]:
    """Give the algorithm and the hexadecimal digits; the file's name may follow them."""
    for algorithm in _ALGORITHMS:
        file = part.with_name(f"{part.name}.{algorithm}")
        file.unlink(missing_ok=True)
        try:
            _complete(f"{url}.{algorithm}", file, lambda _bytes: None)
        except _NotThere:
            continue
        digits = file.read_text(encoding="ascii", errors="replace").split()[:1]
        file.unlink()
        return algorithm, "".join(digits).lower()
    raise SetupError(f"{url} cannot be fetched: no checksum lies beside it")


def _complete(url: str, part: Path, tell: Tell) -> None:
    """Fetch what is missing, over as many connections as that takes."""
    most, failures = _size(part), 0
    while True:
        try:
            if _fetch_rest(url, part, tell):
                return
            why = "the connection broke off"
        except urllib.error.HTTPError as exc:
            if exc.code < HTTPStatus.INTERNAL_SERVER_ERROR and exc.code != HTTPStatus.TOO_MANY_REQUESTS:
                kind = _NotThere if exc.code == HTTPStatus.NOT_FOUND else SetupError
                raise kind(f"{url} cannot be fetched: the server answers {exc.code} {exc.reason}") from exc
            why = f"the server answers {exc.code} {exc.reason}"
        except (urllib.error.URLError, OSError, HTTPException) as exc:
            why = str(getattr(exc, "reason", "") or exc) or type(exc).__name__
        failures = 0 if _size(part) > most else failures + 1
        if failures == _TRIES:
            raise SetupError(f"{url} cannot be fetched: {why}")
        most = max(most, _size(part))
        time.sleep(_PAUSE * 2**failures)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_rest(url: str, part: Path, tell: Tell) -> bool:
    """Append what one connection brings; tells whether that was all."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=_PATIENCE)  # noqa: S310  (http by the setting)
    except urllib.error.HTTPError as exc:
        if exc.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # there is no more; the checksum tells whether it is right
        raise
    with answer, part.open("ab") as file:
        have = min(_place(answer), have)
        file.truncate(have)
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else None
        while chunk := answer.read1(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            tell(have)
    return whole is None or have == whole


def _place(answer: HTTPResponse) -> int:
    """Give where in the file an answer begins: not every server knows ranges."""
    found = _PLACE.match(answer.headers.get("Content-Range", ""))
    return int(found[1]) if found and answer.status == HTTPStatus.PARTIAL_CONTENT else 0
