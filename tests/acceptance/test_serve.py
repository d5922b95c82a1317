"""`eventsvc serve` as a process: what signals do to it. /healthz needs no server, so none is started."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def service(port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"EVENTSVC_PORT": str(port), "EVENTSVC_WORKERS": "2"}
    process = subprocess.Popen([sys.executable, "-m", "eventsvc", "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_until(lambda: _ask(port) == "200")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _ask(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/healthz")
        return str(connection.getresponse().status)
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as exc:
        return type(exc).__name__
    finally:
        connection.close()


def _wait_until(condition: object, *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in children.split()]


def test_a_worker_that_is_stopped_alone_is_replaced_and_no_request_fails(
    service: subprocess.Popen[bytes], port: int
) -> None:
    _wait_until(lambda: len(_workers(service)) == 2)
    leaving = _workers(service)[0]

    os.kill(leaving, signal.SIGTERM)
    answers: Counter[str] = Counter()
    deadline = time.monotonic() + 30
    while leaving in _workers(service) or len(_workers(service)) < 2:
        assert time.monotonic() < deadline
        answers[_ask(port)] += 1
    answers.update(_ask(port) for _ in range(50))

    assert set(answers) == {"200"}


def test_stopping_under_load_answers_or_refuses_every_connection(service: subprocess.Popen[bytes], port: int) -> None:
    answers: Counter[str] = Counter()
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            answers[_ask(port)] += 1

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    _wait_until(lambda: answers["200"] > 100)
    service.send_signal(signal.SIGTERM)
    service.wait(30)
    over.set()
    for thread in threads:
        thread.join()

    assert set(answers) == {"200", "refused"}


def test_a_client_that_keeps_its_connection_is_told_and_holds_nothing_up(
    service: subprocess.Popen[bytes], port: int
) -> None:
    idle, busy = (http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2))
    for connection in (idle, busy):
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    began = time.monotonic()
    service.send_signal(signal.SIGTERM)

    told = False
    while not told:
        busy.request("GET", "/healthz")
        response = busy.getresponse()
        assert response.read()
        told = response.getheader("connection") == "close"
        time.sleep(0.02)
    service.wait(30)

    assert time.monotonic() - began < 10  # requests under way would be given 15 s
    idle.close()
    busy.close()
