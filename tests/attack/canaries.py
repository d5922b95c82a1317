"""Three clients that mean well: /healthz, a POST and a search, each every 50 ms; run as a process of their own.

Reads a line on standard input, then writes what was seen as JSON: [[kind, began, seconds, status], …].
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

_EVERY = 0.05  # seconds
EVENT = json.dumps({"email": "c@b.test", "environment": "canary", "component": "canary", "message": "sing"}).encode()
QUERY = "component%20eq%20'canary'"
JSON = {"Content-Type": "application/json"}
CANARIES = {
    "healthz": ("GET", "/healthz", None, {}),
    "POST": ("POST", "/event", EVENT, JSON),
    "search": ("GET", f"/event?limit=5&q={QUERY}", None, {}),
}
_TIMEOUT = 60.0

Seen = tuple[str, float, float, int]


def _sing(kind: str, port: int, key: str, seen: list[Seen], stop: threading.Event) -> None:
    method, path, body, headers = CANARIES[kind]
    if key:
        headers = headers | {"Authorization": f"Bearer {key}", "X-Forwarded-For": "10.0.0.1"}
    while not stop.is_set():
        began = time.time()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            connection.close()
        seen.append((kind, began, time.time() - began, status))
        stop.wait(_EVERY)


def main(port: int, key: str) -> None:
    """Sing until told to stop."""
    seen: list[Seen] = []
    stop = threading.Event()
    threads = [threading.Thread(target=_sing, args=(kind, port, key, seen, stop)) for kind in CANARIES]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
