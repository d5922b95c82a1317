"""Download a file over HTTP: continue where the last attempt stopped, and delete a file with a wrong checksum."""

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
_TRIES = 4  # attempts in a row without a new byte
_PAUSE = 1.0  # seconds after the first of these attempts; the pause doubles
_CHUNK = 256 * 1024
_PLACE = re.compile(r"bytes (\d+)-")

Tell = Callable[[int], None]


def fetch(url: str, part: Path, tell: Tell, *, sha256: str) -> None:
    """Download a file and compare its checksum.

    Proxies and certificates come from the environment (https_proxy, no_proxy, SSL_CERT_FILE).

    Args:
        url: the address of the file.
        part: the path of the file here. A partial file stays after a failure, and the next call continues it.
        tell: receives the number of bytes so far.
        sha256: the SHA-256 checksum that the file must have, in hexadecimal digits.

    Raises:
        SetupError: the download failed, or the checksum is wrong. A file with a wrong checksum is deleted.
    """
    begun = part.exists()
    _complete(url, part, tell)
    with part.open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if right:
        return
    part.unlink()
    if not begun:
        raise SetupError(f"{url} was fetched and deleted again: its SHA-256 checksum is wrong")
    fetch(url, part, tell, sha256=sha256)  # the partial file was the beginning of another file


def _complete(url: str, part: Path, tell: Tell) -> None:
    """Download the missing bytes, with as many connections as necessary."""
    most, failures = _size(part), 0
    while True:
        try:
            if _fetch_rest(url, part, tell):
                return
            why = "the connection broke off"
        except urllib.error.HTTPError as exc:
            if exc.code < HTTPStatus.INTERNAL_SERVER_ERROR and exc.code != HTTPStatus.TOO_MANY_REQUESTS:
                raise SetupError(f"{url} cannot be fetched: the server answers {exc.code} {exc.reason}") from exc
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
    """Append the bytes that one connection brings; tell whether the file is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=_PATIENCE)  # noqa: S310  (http by the setting)
    except urllib.error.HTTPError as exc:
        if exc.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # the file is complete; the checksum tells whether the file is right
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
    """Give the offset in the file at which an answer begins; 0 from a server without ranges."""
    found = _PLACE.match(answer.headers.get("Content-Range", ""))
    return int(found[1]) if found and answer.status == HTTPStatus.PARTIAL_CONTENT else 0
