"""A real nginx with config/nginx.conf in front of three real API processes, without containers."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventsvc.dev.server import free_port
from tests.containers.load import Load

pytestmark = pytest.mark.timeout(900)  # nginx may have to be installed first
ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
EVENT = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "hello",
    "data": {},
}


def _find_nginx() -> str:
    """The program; where it is missing and we may, Debian's package is installed."""
    path = os.environ["PATH"] + ":/usr/sbin"
    if (found := shutil.which("nginx", path=path)) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet: dict[str, Any] = {"capture_output": True, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], **quiet, check=False)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light"], **quiet, check=False
        )
        found = shutil.which("nginx", path=path)
    if found is None:
        pytest.fail("nginx is missing: install it (Debian: apt-get install nginx-light)", pytrace=False)
    return found


class Api:
    """One `eventsvc serve`."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self._environment, self._log = os.environ | environment, log
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "eventsvc", "serve", "--port", str(self.port), "--workers", "1"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End the process, if it has not ended."""
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    def wait_ready(self) -> None:
        _wait_for(self._is_ready, self._log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        return _status(self.port, "/readyz") == 200


def _wait_for(condition: Callable[[], Any], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


def _request(port: int, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def _status(port: int, target: str) -> int:
    try:
        return _request(port, "GET", target)[0]
    except OSError:
        return 0


class Balanced:
    """nginx and the processes behind it."""

    def __init__(self, apis: list[Api], port: int, log: Path) -> None:
        self.apis, self.port, self._log = apis, port, log

    def request(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        return _request(self.port, method, target, body, **headers)

    def post(self, event: dict[str, Any], **headers: str) -> tuple[int, Any, bytes]:
        return self.request("POST", "/event", json.dumps(event), **{"Content-Type": "application/json"} | headers)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def _nginx(
    folder: Path, apis: list[Api], *, connections: int = 512, listen: str = "listen 8080;"
) -> Iterator[Balanced]:
    """Start it with the file as it is, but for the folder that it writes to."""
    port, log = free_port(), folder / "nginx.log"
    config = (ROOT / "config" / "nginx.conf").read_text()
    assert "limit_conn address 512;" in config
    config = config.replace("limit_conn address 512;", f"limit_conn address {connections};")
    (folder / "nginx.conf").write_text(config.replace(" /tmp/", f" {folder}/"))
    listen = listen.replace("listen 127.0.0.1:8080;", "listen 8080;").replace("/run/tls", str(folder))
    (folder / "listen.conf").write_text(listen.replace("listen 8080;", f"listen 127.0.0.1:{port};"))
    servers = "".join(f"server 127.0.0.1:{api.port} fail_timeout=1s;" for api in apis)
    (folder / "backend.conf").write_text(
        f'upstream api {{ {servers} }}\nmap "" $eventsvc_backend {{ default api; }}\n',
    )
    command = [_find_nginx(), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-g", "daemon off;"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for(lambda: process.poll() is not None or _status(port, "/nginx-health") == 200, log)
        assert process.poll() is None, log.read_text()
        yield Balanced(apis, port, log)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(DEADLINE)


@pytest.fixture
def balanced(database: str, server_folder: Path) -> Iterator[Balanced]:
    folder = server_folder / f"nginx-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o711)
    with ExitStack() as stack:
        apis = [Api({"EVENTSVC_DATABASE_URL": database}, folder / f"api-{number}.log") for number in range(3)]
        for api in apis:
            stack.callback(api.kill)
        for api in apis:
            api.wait_ready()
        yield stack.enter_context(_nginx(folder, apis))


def _stored(balanced: Balanced, run: str) -> Counter[str]:
    """How often each number of a run is stored."""
    query = urllib.parse.quote(f"component eq '{run}'")
    status, _, body = balanced.request("GET", f"/event?q={query}", Accept="application/x-ndjson")
    assert status == 200
    return Counter(json.loads(line)["data"]["number"] for line in body.splitlines())


def test_requests_go_through_as_they_are(balanced: Balanced) -> None:
    """Spread over the processes; long lines, QUERY, live streams and NDJSON pass; what is looked for is not logged."""
    live = http.client.HTTPConnection("127.0.0.1", balanced.port, timeout=30)
    live.request("GET", "/event/stream")
    stream = live.getresponse()
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    status, headers, body = balanced.post(EVENT)
    assert status == 201
    assert balanced.request("GET", headers["Location"])[2] == body
    text = b""
    while json.loads(body)["id"].encode() not in text:
        text += stream.read1()
    live.close()

    secret = "somebody@example.com"
    long = urllib.parse.quote(f"email eq '{secret}' OR " * 100 + "component eq 'orders'")
    assert 4_000 < len(long) < 8_000
    assert json.loads(balanced.request("GET", f"/event?q={long}")[2]) == [json.loads(body)]
    found = balanced.request("QUERY", "/event", "component eq 'orders'", **{"Content-Type": "text/plain"})
    assert json.loads(found[2]) == [json.loads(body)]
    status, headers, lines = balanced.request("GET", "/event", Accept="application/x-ndjson")
    assert headers["Transfer-Encoding"] == "chunked"
    assert json.loads(lines) == json.loads(body)
    assert balanced.request("GET", "/metrics")[0] == 404

    for _ in range(60):
        balanced.request("GET", "/healthz")
    served = Counter(re.findall(r'"url.path":"/healthz".*?"upstream":"([^"]+)"', balanced.log()))
    assert len(served) == 3
    assert min(served.values()) >= 15
    assert secret not in balanced.log()
    assert "example" not in balanced.log()


def test_a_large_body_passes(balanced: Balanced) -> None:
    """The API's own limits decide, not the balancer's."""
    lines = b"\n".join(json.dumps(EVENT | {"message": "x" * 4_000}).encode() for _ in range(2_000))
    status, _, body = balanced.request("POST", "/event", lines, **{"Content-Type": "application/x-ndjson"})
    assert status == 201, body[:300]


def test_processes_restart_under_load_and_no_request_fails(balanced: Balanced) -> None:
    """SIGTERM: each ends by itself, and what it has not taken goes to the others."""
    with Load(balanced.port, threads=6) as load:
        for api in balanced.apis:
            _wait_for(load.outcome.more(30), balanced._log)
            assert api.end(signal.SIGTERM) == 0
            api.start()
            api.wait_ready()
    assert load.outcome.failures == []
    assert _stored(balanced, load.run) == Counter(dict.fromkeys(load.outcome.acknowledged, 1))


def test_a_process_is_killed_under_load(balanced: Balanced) -> None:
    """SIGKILL: with a key a POST is sent once more and nothing fails; without one it is a plain 503, never a double."""
    with Load(balanced.port, threads=4, keys=True) as keyed, Load(balanced.port, threads=4) as plain:
        for api in balanced.apis[:2]:
            _wait_for(plain.outcome.more(30), balanced._log)
            api.end(signal.SIGKILL)
        _wait_for(keyed.outcome.more(30), balanced._log)
    # 409: the same key is still under way in PostgreSQL, with the process that has just died.
    assert set(keyed.outcome.statuses) <= {201, 409}
    assert set(plain.outcome.statuses) <= {201, 503}
    for load in (keyed, plain):
        stored = _stored(balanced, load.run)
        assert set(stored.values()) == {1}
        assert load.outcome.acknowledged.keys() <= stored.keys()


def test_nobody_answers(balanced: Balanced) -> None:
    """It is said as the API says things: a problem, and when to come back."""
    for api in balanced.apis:
        api.end(signal.SIGTERM)
    status, headers, body = balanced.post(EVENT)
    assert status == 503
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "2"
    assert json.loads(body)["status"] == 503


def test_one_address_cannot_take_every_connection(database: str, server_folder: Path) -> None:
    """Uploads that never end are counted; what is beyond the limit gets a problem, and a place is free again later."""
    folder = server_folder / f"nginx-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o711)
    api = Api({"EVENTSVC_DATABASE_URL": database}, folder / "api.log")
    head = b"POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with ExitStack() as stack:
        stack.callback(lambda: api.process.poll() is None and api.end(signal.SIGKILL))
        api.wait_ready()
        balanced = stack.enter_context(_nginx(folder, [api], connections=3))
        slow: list[socket.socket] = []

        def is_full() -> bool:
            # A question may hold a place while an upload comes, and the upload is then refused: so another one comes.
            slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", balanced.port))))
            slow[-1].sendall(head)
            return _status(balanced.port, "/event") == 429

        _wait_for(is_full, folder / "nginx.log")
        status, headers, body = balanced.request("GET", "/event")
        assert (status, headers["Content-Type"], json.loads(body)["status"]) == (429, "application/problem+json", 429)
        for one in slow:
            one.close()
        _wait_for(lambda: _status(balanced.port, "/event") == 200, folder / "nginx.log")
        _check_tls(folder / "tls", api)


def _check_tls(folder: Path, api: Api) -> None:
    """With the file for TLS, HTTPS reaches the API, and a browser is told to stay with it."""
    folder.mkdir(mode=0o711)
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run(["openssl", *new, *names, *map(str, files)], check=True, capture_output=True)
    listen, port = (ROOT / "config" / "nginx" / "listen-tls.conf").read_text(), free_port()
    context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    with _nginx(folder, [api], listen=listen.replace("listen 8443", f"listen 127.0.0.1:{port}")):
        with urllib.request.urlopen(f"https://localhost:{port}/event", context=context, timeout=30) as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert _status(port, "/event") == 400  # plain HTTP on that port
