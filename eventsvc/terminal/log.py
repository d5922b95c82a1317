"""``eventsvc log``: send events from the command line, from a pipe, or from a growing file."""

from __future__ import annotations

import getpass
import json
import math
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eventsvc.terminal.options import Data, Key, Url, service
from eventsvc.terminal.service import Service, ServiceError

_BATCH, _BATCH_SECONDS = 1000, 1.0  # lines in one request; seconds that a line waits for other lines
_BATCH_BYTES = 4 * 1024 * 1024  # of the lines in one request; JSON takes six bytes for a byte at most
_LONG_LINE = 128 * 1024  # bytes; the middle of a longer line of text is cut out, or its JSON could be too large
_SHOWN = 60  # characters of a refused line
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between tries
_REJECTED = 4  # exit code: the service refused some lines


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: eventsvc log 'deployed 1.2.3' --component deploy --data version=1.2.3")(log)


class Shape(StrEnum):
    """What each line may be."""

    ANY = "any"


@dataclass(frozen=True, slots=True)
class _Lines:
    """How lines become events.

    Attributes:
        fields: fields of events that lack them.
        as_json: each line is a JSON event.
        shaped: each line is a record of any logger, which the service brings into the form of an event.
    """

    fields: dict[str, Any]
    as_json: bool
    shaped: bool

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of a request."""
        return {"shape": Shape.ANY.value, **self.fields} if self.shaped else {"partial": "true"}

    def encode(self, batch: list[bytes]) -> bytes:
        """Write the body of a request."""
        return b"".join(self._event(line) + b"\n" for line in batch)

    def _event(self, line: bytes) -> bytes:
        if self.shaped:
            # The service removes one \r at the end of a line, as part of the line end.
            return line + b"\r" if line.endswith(b"\r") else line
        if self.as_json:
            try:
                given = json.loads(line)
            except ValueError:
                return line  # the service explains the fault
            return json.dumps(self.fields | given).encode() if isinstance(given, dict) else line
        text = line.decode(errors="replace")
        event = self.fields | {"message": text}
        return json.dumps(_shorten(event) if len(line) > _LONG_LINE else event).encode()


def _shorten(event: dict[str, Any]) -> dict[str, Any]:
    """Cut out the middle of the message, and mark the event, as the service does with a shorter message."""
    from eventsvc import limits
    from eventsvc.text.sanitize import cut_middle

    text = event["message"]
    detail = f"has {len(text):,} characters; at most {limits.MESSAGE:,} are allowed"
    mark = {"sanitized": [{"pointer": "/message", "detail": detail}]}
    return event | {"message": cut_middle(text, limits.MESSAGE), "data": event.get("data", {}) | mark}


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
        str,
        typer.Option(help="Events sent twice with the same key are stored once. Lines are then sent 1,000 at a time."),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Each line is a JSON event; options supply missing fields.")
    ] = False,
    shape: Annotated[
        Shape | None, typer.Option(help="any: each line is a record of any logger, as JSON or as text.")
    ] = None,
    url: Url = None,
    key: Key = None,
    server_data: Data = None,
) -> None:
    """Send one event, or one event for each line. Exit code 4: the service refused some lines, which are shown."""
    defaults = _defaults(component, environment, email, data or []) | ({"occurredAt": at} if at else {})
    if shape and (as_json or message or data or at):
        raise typer.BadParameter("goes with lines only, and with none of --json, --data and --at", param_hint="--shape")
    lines = _Lines(defaults, as_json, shape is not None)
    with service(url, key, server_data) as opened:
        if follow is not None:
            _follow(opened, follow, lines)
        elif message:
            _send_one(opened, defaults | {"message": message}, idempotency_key)
        elif not _send_lines(opened, sys.stdin.fileno(), lines, idempotency_key):
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


def _send_lines(opened: Service, descriptor: int, lines: _Lines, key: str) -> bool:
    """Send all lines in batches; tell whether the service stored every line.

    With a key, the batches depend on the lines alone. So a repeated command sends the same batches with the same keys.
    """
    whole, sent = True, 0
    for number, batch in enumerate(_batches(descriptor, patience=math.inf if key else _BATCH_SECONDS)):
        rejected = _post(opened, lines, batch, f"{key}-{number}" if key else "")
        _show_rejected(rejected, batch, sent)
        sent, whole = sent + len(batch), whole and not rejected
    print(f"{sent:,} lines sent", file=sys.stderr)
    return whole


def _batches(descriptor: int, *, patience: float) -> Iterator[list[bytes]]:
    """Read the lines of a pipe or file in batches. A line waits at most ``patience`` seconds for other lines."""
    lines: list[bytes] = []
    due, size = 0.0, 0
    for line in _lines(descriptor):
        if line is not None:
            due = due if lines else time.monotonic() + patience
            lines.append(line)
            size += len(line)
        if len(lines) >= _BATCH or size >= _BATCH_BYTES or (lines and time.monotonic() >= due):
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """Give the lines that are not blank, without line ends. While no line comes, give None several times a second."""
    from eventsvc.terminal.follow import LONGEST

    rest = b""
    while True:
        if not select.select([descriptor], [], [], _BATCH_SECONDS / 4)[0]:
            yield None
            continue
        chunk = os.read(descriptor, 65536)
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) >= LONGEST or not chunk:
            whole.append(rest[:LONGEST])
            rest = rest[LONGEST:]
        for line in whole:
            pieces = (line[begin : begin + LONGEST] for begin in range(0, len(line), LONGEST))
            yield from (piece.removesuffix(b"\r") for piece in pieces if piece.strip())
        if not chunk:
            break


def _post(opened: Service, lines: _Lines, batch: list[bytes], key: str) -> list[dict[str, Any]]:
    """Send one batch again and again until the service answers; give the faults of refused lines.

    Each attempt has the same idempotency key, so the service stores the batch once.
    """
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key or os.urandom(16).hex()}
    body = lines.encode(batch)
    for attempt in range(1_000_000):
        try:
            answer = opened.request("POST", "/event", lines.parameters, body=body, headers=headers)
            return list(json.loads(answer.data).get("errors", ()))
        except ServiceError as exc:
            if exc.status and exc.status not in (408, 409, 429) and exc.status < 500:  # noqa: PLR2004
                raise
            if attempt == 0:
                print(f"eventsvc: {exc}; trying again", file=sys.stderr)
            time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
    raise AssertionError("unreachable")


def _show_rejected(rejected: list[dict[str, Any]], batch: list[bytes], before: int | None = None) -> None:
    """Show each fault with its line. ``before`` is the number of the lines that came before the batch, if known."""
    for fault in rejected:
        line = int(fault.get("line", 0))
        number = "" if before is None else f" {before + line}"
        text = batch[line - 1][: 4 * _SHOWN].decode(errors="replace")[:_SHOWN] if 0 < line <= len(batch) else ""
        place = f"line{number} {fault.get('pointer', '')}"
        print(f"eventsvc: refused: {place}: {fault.get('detail', '')}: {text!r}", file=sys.stderr)


def _follow(opened: Service, path: Path, lines: _Lines) -> None:
    """Send the lines of a file for ever, from the place where the last run stopped.

    The position is kept before each batch and after its answer. So a batch that a killed run has sent is sent again
    with the same key, and is stored once.
    """
    from eventsvc.terminal.follow import FollowedFile

    with _readable(path), FollowedFile(path, opened.url) as file:
        if not path.exists():
            print(f"eventsvc: {path} does not exist yet: waiting for it", file=sys.stderr)
        while True:
            batch, position = file.read(_BATCH, _BATCH_BYTES)
            if not batch:
                time.sleep(_BATCH_SECONDS / 4)
                continue
            key = file.begin(position)
            try:
                _show_rejected(_post(opened, lines, batch, key), batch)
            except ServiceError as exc:
                if exc.problem != "key-reused":
                    raise
                # A run with other options was killed after it had sent these lines.
                print(f"eventsvc: {len(batch):,} lines are stored already, with other options", file=sys.stderr)
            file.keep(position)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, IsADirectoryError) as exc:
        where = exc.filename or path
        raise typer.BadParameter(f"{where} cannot be read: {exc.strerror}", param_hint="--follow") from exc
