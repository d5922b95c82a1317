"""``eventsvc log``: send events from the command line, from a pipe, or from a growing file."""

from __future__ import annotations

import getpass
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsvc.terminal.options import Data, Key, Url, service
from eventsvc.terminal.service import Service, ServiceError

if TYPE_CHECKING:
    from eventsvc.terminal.follow import Position

_BATCH, _BATCH_SECONDS = 1000, 1.0  # lines in one request; seconds that a line waits for other lines
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between tries
_REJECTED = 4  # exit code: the service refused some lines


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: eventsvc log 'deployed 1.2.3' --component deploy --data version=1.2.3")(log)


def log(
    message: Annotated[
        str, typer.Argument(help="The message; without a message, each line of standard input is one.")
    ] = "",
    *,
    component: Annotated[str, typer.Option(help="The component that the event comes from.")] = "shell",
    environment: Annotated[str, typer.Option(help="The environment of the event.")] = "production",
    email: Annotated[str, typer.Option(help="The e-mail address of the event.", show_default="user@host")] = "",
    at: Annotated[
        str, typer.Option(help="The time of the event, such as 2018-01-31T12:00:00+01:00.", show_default="now")
    ] = "",
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="KEY=VALUE", help="A member of data; repeatable.")
    ] = None,
    follow: Annotated[
        Path | None, typer.Option(help="Send the lines of this file, and new lines as they come.")
    ] = None,
    idempotency_key: Annotated[
        str, typer.Option(help="Events that are sent twice with the same key are stored once.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Each line is a JSON event; options supply missing fields.")
    ] = False,
    url: Url = None,
    key: Key = None,
    server_data: Data = None,
) -> None:
    """Send one event, or one event for each line. Exit code 4: the service refused some lines, which are shown."""
    defaults = _defaults(component, environment, email, data or []) | ({"occurredAt": at} if at else {})
    with service(url, key, server_data) as opened:
        if follow is not None:
            _follow(opened, follow, defaults, as_json=as_json)
        elif message:
            _send_one(opened, defaults | {"message": message}, idempotency_key)
        elif not _send_lines(opened, sys.stdin.fileno(), defaults, idempotency_key, as_json=as_json):
            raise typer.Exit(_REJECTED)


def _defaults(component: str, environment: str, email: str, data: list[str]) -> dict[str, Any]:
    address = email or os.environ.get("EVENTSVC_EMAIL") or f"{getpass.getuser()}@{socket.gethostname()}.local"
    values = {name: _value(text) for name, _, text in (pair.partition("=") for pair in data)}
    event: dict[str, Any] = {"email": address, "environment": environment, "component": component}
    return event | ({"data": values} if values else {})


def _value(text: str) -> Any:
    """Read a value as JSON, or as text if the value is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _send_one(opened: Service, event: dict[str, Any], key: str) -> None:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    answer = opened.request("POST", "/event", body=json.dumps(event).encode(), headers=headers)
    print(json.loads(answer.data)["id"])


def _send_lines(opened: Service, descriptor: int, defaults: dict[str, Any], key: str, *, as_json: bool) -> bool:
    """Send all lines in batches; tell whether the service stored every line."""
    whole, sent = True, 0
    for number, batch in enumerate(_batches(descriptor)):
        rejected = _post(opened, _encode(batch, defaults, as_json=as_json), f"{key}-{number}" if key else "")
        _show_rejected(rejected, sent)
        sent, whole = sent + len(batch), whole and not rejected
    print(f"{sent:,} lines sent", file=sys.stderr)
    return whole


def _batches(descriptor: int) -> Iterator[list[bytes]]:
    """Read the lines of a pipe or file in batches. A line waits at most a second for other lines."""
    lines: list[bytes] = []
    due = 0.0
    for line in _lines(descriptor):
        if line is not None:
            due = due if lines else time.monotonic() + _BATCH_SECONDS
            lines.append(line)
        if len(lines) >= _BATCH or (lines and time.monotonic() >= due):
            yield lines
            lines = []
    if lines:
        yield lines


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """Give the lines that are not blank. While no line comes, give None several times a second."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], _BATCH_SECONDS / 4)[0]:
            yield None
            continue
        chunk = os.read(descriptor, 65536)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (text for line in whole if (text := line.strip()))
        if not chunk:
            break
    if text := rest.strip():
        yield text


def _encode(batch: list[bytes], defaults: dict[str, Any], *, as_json: bool) -> bytes:
    return b"".join(_event(line, defaults, as_json=as_json) + b"\n" for line in batch)


def _event(line: bytes, defaults: dict[str, Any], *, as_json: bool) -> bytes:
    if as_json:
        try:
            given = json.loads(line)
        except ValueError:
            return line  # the service explains the fault
        return json.dumps(defaults | given).encode() if isinstance(given, dict) else line
    return json.dumps(defaults | {"message": line.decode(errors="replace")}).encode()


def _post(opened: Service, body: bytes, key: str) -> list[dict[str, Any]]:
    """Send one batch again and again until the service answers; give the faults of refused lines.

    Each attempt has the same idempotency key, so the service stores the batch once.
    """
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key or os.urandom(16).hex()}
    for attempt in range(1_000_000):
        try:
            answer = opened.request("POST", "/event", {"partial": "true"}, body=body, headers=headers)
            return list(json.loads(answer.data).get("errors", ()))
        except ServiceError as exc:
            if exc.status and exc.status not in (408, 409, 429) and exc.status < 500:  # noqa: PLR2004
                raise
            if attempt == 0:
                print(f"eventsvc: {exc}; trying again", file=sys.stderr)
            time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
    raise AssertionError("unreachable")


def _show_rejected(rejected: list[dict[str, Any]], before: int) -> None:
    for fault in rejected:
        place = f"line {before + fault.get('line', 0)} {fault.get('pointer', '')}"
        print(f"eventsvc: refused: {place}: {fault.get('detail', '')}", file=sys.stderr)


def _follow(opened: Service, path: Path, defaults: dict[str, Any], *, as_json: bool) -> None:
    """Send the lines of a file for ever, from the place where the last run stopped.

    The position is kept after each batch that the service has answered.
    """
    from eventsvc.terminal.follow import FollowedFile

    with FollowedFile(path, opened.url) as file:
        while True:
            batch, position = file.read(_BATCH)
            if not batch:
                time.sleep(_BATCH_SECONDS / 4)
                continue
            _show_rejected(_post(opened, _encode(batch, defaults, as_json=as_json), _key(file.start, position)), 0)
            file.keep(position)


def _key(start: Position, end: Position) -> str:
    """Make an idempotency key from the place of a batch in the file: a batch that is sent again is stored once."""
    return f"{start.inode}-{start.offset}-{end.offset}-{start.digest}"
