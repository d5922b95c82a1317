"""Import the data view, searches and dashboards of this project into Kibana."""

from __future__ import annotations

from pathlib import Path

import orjson
import urllib3

from eventsvc.errors import SetupError

_IMPORT_TIMEOUT = 60.0  # seconds


def read_password(path: Path) -> str:
    """Read a password from a file, without the end of the line.

    Raises:
        SetupError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"cannot read {path}: {exc}") from exc


def import_saved_objects(url: str, path: Path, *, user: str, password: str) -> int:
    """Import the data view, searches and dashboards of an NDJSON file into Kibana, and replace existing ones.

    The ids are fixed, so a second import changes nothing.

    Returns:
        The number of objects that Kibana took.

    Raises:
        SetupError: Kibana cannot be reached, or it refused an object. The text says which and why.
    """
    headers = {"kbn-xsrf": "eventsvc", **urllib3.make_headers(basic_auth=f"{user}:{password}")}
    target = f"{url.rstrip('/')}/api/saved_objects/_import?overwrite=true"
    try:
        fields = {"file": (path.name, path.read_bytes(), "application/ndjson")}
        with urllib3.PoolManager(retries=False, timeout=_IMPORT_TIMEOUT) as http:
            response = http.request("POST", target, fields=fields, headers=headers)
    except (OSError, urllib3.exceptions.HTTPError) as exc:
        raise SetupError(f"the saved objects could not be imported: {exc}") from exc
    return _read_import(response.status, response.data)


def _read_import(status: int, body: bytes) -> int:
    if status != 200:  # noqa: PLR2004  (HTTP's own)
        raise SetupError(f"Kibana answered {status} to the import: {body[:500].decode(errors='replace')}")
    answer = orjson.loads(body)
    if not answer["success"]:
        refused = "; ".join(f"{e['type']} {e['id']}: {e['error']['type']}" for e in answer.get("errors", ()))
        raise SetupError(f"Kibana refused saved objects: {refused}")
    return int(answer["successCount"])
