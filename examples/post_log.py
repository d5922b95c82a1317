#!/usr/bin/env python3
"""Turn the lines of a real log file into events and POST them. Needs nothing but Python 3.11.

    python3 examples/post_log.py /var/log/dpkg.log
    python3 examples/post_log.py --component shop --environment production access.log.gz
    journalctl -o short-iso | python3 examples/post_log.py -

Syslog, dpkg.log and access logs (common and combined) are recognised line by line: their parts go into `data`. Any
other line becomes a message as it is.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import itertools
import json
import re
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

MESSAGE_LIMIT = 8191  # characters, the service's own limit
NAME_LIMIT = 100
BATCH_LINES = 1000
BATCH_BYTES = 800_000
ATTEMPTS = 6

SYSLOG = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*) (?P<host>\S+) "
    r"(?P<program>[^\s:\[]+)(?:\[(?P<pid>\d+)\])?: (?P<text>.*)"
)
DPKG = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<text>(?P<action>[a-z-]+)(?: .*)?)")
ACCESS = re.compile(
    r'(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?P<method>[A-Z]+) (?P<path>\S+)[^"]*)" '
    r'(?P<status>\d{3}) (?P<bytes>\d+|-)(?: "(?P<referrer>[^"]*)" "(?P<agent>[^"]*)")?'
)


def main() -> int:
    """Post the file; returns the exit code."""
    options = read_options()
    client = Client(options.url)
    started, posted = time.monotonic(), 0
    events = read_events(options)
    try:
        for batch in batches(itertools.islice(events, options.limit)):
            posted += client.post(batch)
            if sys.stderr.isatty():
                print(f"\r{posted:,} events", end="", file=sys.stderr, flush=True)
    except (OSError, http.client.HTTPException, Refused) as exc:
        print(f"{_over()}{posted:,} events were stored, then: {exc}", file=sys.stderr)
        return 1
    finally:
        client.close()
    seconds = time.monotonic() - started
    print(
        f"{_over()}{posted:,} events in {seconds:.1f} s, {posted / max(seconds, 0.001):,.0f} a second", file=sys.stderr
    )
    print(f"curl -G {client.url} --data-urlencode \"q=createdAt gte 'now-5m'\"")
    return 0


def _over() -> str:
    """What goes back to the start of the progress line, if one is shown."""
    return "\r" if sys.stderr.isatty() else ""


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary, _, epilog = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=epilog, formatter_class=raw)
    parser.add_argument("file", help="a log file, plain or .gz; - for standard input")
    parser.add_argument("--url", default="http://localhost:8000/event", help="where events are POSTed (%(default)s)")
    parser.add_argument("--component", help="component of all events; else what the line says, or the file's name")
    parser.add_argument("--environment", default="development", help="environment of all events (%(default)s)")
    parser.add_argument("--email", default="logs@localhost", help="email of all events (%(default)s)")
    parser.add_argument("--limit", type=int, help="post at most so many lines")
    return parser.parse_args()


def read_events(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One event for each line that is not empty."""
    name = "stdin" if options.file == "-" else Path(options.file).name.split(".")[0] or "log"
    with open_log(options.file) as file:
        for number, line in enumerate(file, 1):
            # The service refuses NUL: PostgreSQL cannot store it.
            text = line.rstrip("\r\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
            if text.strip():
                component, message, data = parse(text, name)
                yield {
                    "email": options.email,
                    "environment": options.environment,
                    "component": (options.component or component)[:NAME_LIMIT],
                    "message": message[:MESSAGE_LIMIT],
                    "data": {**data, "file": options.file, "line": number},
                }


def open_log(name: str) -> IO[str]:
    """Open a file, packed or not; bytes that are not UTF-8 are replaced."""
    if name == "-":
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
        return sys.stdin
    opener: Callable[..., IO[str]] = gzip.open if name.endswith(".gz") else open
    return opener(name, "rt", encoding="utf-8", errors="replace")


def parse(line: str, name: str) -> tuple[str, str, dict[str, Any]]:
    """The component, message and data that a line holds; ``name`` is the component if the line names none."""
    if match := ACCESS.match(line):
        parts = match.groupdict()
        data = {key: parts[key] for key in ("time", "client", "user", "method", "path", "referrer", "agent")}
        sizes = {"status": int(parts["status"]), "bytes": 0 if parts["bytes"] == "-" else int(parts["bytes"])}
        return name, f"{parts['request']} {parts['status']}", _known(data) | sizes
    if match := SYSLOG.match(line):
        data = _known({key: match[key] for key in ("time", "host")})
        return match["program"], match["text"] or "-", data | ({"pid": int(match["pid"])} if match["pid"] else {})
    if match := DPKG.match(line):
        return name, match["text"], {"time": match["time"], "action": match["action"]}
    return name, line, {}


def _known(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "-", "")}


def batches(events: Iterable[dict[str, Any]]) -> Iterator[list[bytes]]:
    """Encoded events, in lists that stay below the service's limits for one request."""
    batch: list[bytes] = []
    size = 0
    for event in events:
        encoded = json.dumps(event, ensure_ascii=False).encode()
        if batch and (len(batch) == BATCH_LINES or size + len(encoded) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(encoded)
        size += len(encoded) + 1
    if batch:
        yield batch


class Refused(Exception):
    """The service does not take what we send."""


class Client:
    """One connection that is kept open; many events a request where the service takes that, else one."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.url, self._path = url, parts.path or "/event"
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "localhost", parts.port, timeout=60)
        self._bulk = True

    def post(self, batch: list[bytes]) -> int:
        """Store a batch; returns how many events that is."""
        if self._bulk:
            status, answer = self._send(b"\n".join(batch) + b"\n", "application/x-ndjson")
            if status < http.client.BAD_REQUEST:
                return len(batch)
            self._bulk = status not in (http.client.UNSUPPORTED_MEDIA_TYPE, http.client.METHOD_NOT_ALLOWED)
            if self._bulk:
                raise Refused(answer)
        for event in batch:
            status, answer = self._send(event, "application/json")
            if status >= http.client.BAD_REQUEST:
                raise Refused(answer)
        return len(batch)

    def _send(self, body: bytes, media_type: str) -> tuple[int, str]:
        """One request; sent again while the service is busy or away: the key makes sure that it is stored once."""
        headers = {"Content-Type": media_type, "Idempotency-Key": f'"{uuid.uuid4()}"'}
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                self._connection.request("POST", self._path, body, headers)
                response = self._connection.getresponse()
                text = response.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if last:
                    raise
            else:
                if last or response.status not in (409, 429, 502, 503, 504):
                    return response.status, f"{response.status} {text}"
            time.sleep(0.2 * 2**attempt)
        raise AssertionError

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


if __name__ == "__main__":
    sys.exit(main())
