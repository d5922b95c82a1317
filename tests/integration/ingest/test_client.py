"""The logging handler against the real service, also one that is away, hangs or refuses."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3

from eventsvc.client import EventHandler


@pytest.fixture
def make_handler() -> Iterator[Callable[..., EventHandler]]:
    made: list[EventHandler] = []

    def make(url: str, **options: Any) -> EventHandler:
        values: dict[str, Any] = {
            "email": "ops@example.com",
            "environment": "test",
            "interval": 0.05,
            "patience": 0.2,
            "timeout": 5.0,
        }
        made.append(EventHandler(url, **(values | options)))
        return made[-1]

    yield make
    for handler in made:
        handler.close()


def logger_of(handler: EventHandler) -> logging.Logger:
    logger = logging.Logger("shop.orders")  # noqa: LOG001  (one that no other test shares)
    logger.addHandler(handler)
    return logger


def test_records_become_events(service: Any, make_handler: Any) -> None:
    handler = make_handler(service.url)
    logger = logger_of(handler)
    logger.info("order %d placed", 7, extra={"order": {"id": 7, "tags": {"a"}}})
    try:
        int("boom")
    except ValueError:
        logger.exception("failed")
    assert handler.wait(20)
    (first, second) = service.rows(
        "SELECT component, message, data->'order', data->>'exception' FROM event ORDER BY seq"
    )
    assert first[:3] == ("shop.orders", "order 7 placed", '{"id": 7, "tags": ["a"]}')
    assert "ValueError: invalid literal" in second[3]
    assert (handler.sent, handler.dropped) == (2, 0)


def test_thousands_of_records_go_in_batches(service: Any, make_handler: Any) -> None:
    handler = make_handler(service.url)
    logger = logger_of(handler)
    for number in range(3_000):
        logger.info("n %d", number)
    assert handler.wait(30)
    assert service.rows("SELECT count(*), count(DISTINCT message) FROM event") == [(3_000, 3_000)]
    assert service.rows("SELECT count(DISTINCT created_at) < 100 FROM event") == [(True,)]


def test_nothing_is_lost_or_doubled_while_the_service_is_killed_and_restarted(
    module_database: str, make_service: Any, make_handler: Any
) -> None:
    service = make_service(module_database)
    service.rows("TRUNCATE event, idempotency_key")
    handler = make_handler(service.url)
    logger = logger_of(handler)
    for round_ in range(2):
        for number in range(200):
            logger.info("%d/%d", round_, number)
        service.stop(signal.SIGKILL)
        logger.info("%d/away", round_)
        service.start()
    assert handler.wait(60)
    assert service.rows("SELECT count(*), count(DISTINCT message) FROM event") == [(402, 402)]
    assert (handler.sent, handler.dropped) == (402, 0)


def test_a_service_that_is_away_costs_neither_time_nor_memory(make_handler: Any, capfd: Any) -> None:
    handler = make_handler("http://127.0.0.1:9", capacity=100)
    logger = logger_of(handler)
    began = time.perf_counter()
    for _ in range(2_000):
        logger.info("x" * 1000)
    assert time.perf_counter() - began < 10
    assert handler.dropped >= 1_900
    began = time.perf_counter()
    handler.close()
    assert time.perf_counter() - began < 10
    assert handler.dropped == 2_000
    assert "no answer from http://127.0.0.1:9" in capfd.readouterr().err


def test_the_bytes_that_wait_are_bounded_too(make_handler: Any) -> None:
    handler = make_handler("http://127.0.0.1:9", capacity_bytes=50_000)
    logger = logger_of(handler)
    for _ in range(100):
        logger.info("x" * 5_000)
    assert handler.dropped > 85


def test_a_socket_that_hangs_blocks_nobody(make_handler: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handler = make_handler(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60.0)
        logger = logger_of(handler)
        began = time.perf_counter()
        logger.info("into the void")
        assert not handler.wait(0.2)
        handler.close()
        assert time.perf_counter() - began < 10
        assert handler.dropped == 1


def test_records_that_cannot_be_written_harm_nobody(service: Any, make_handler: Any, capfd: Any) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    handler = make_handler(service.url)
    logger = logger_of(handler)
    logger.info("%d", "not a number")
    logger.info("x", extra={"hostile": Hostile()})
    logger.info("fine", extra={"nul": "\0", "nan": float("nan"), "half": "\ud800"})
    assert handler.wait(20)
    assert (handler.sent, handler.dropped) == (2, 1)
    assert "Logging error" in capfd.readouterr().err  # as every handler of logging does
    assert service.rows("SELECT data->>'hostile' FROM event ORDER BY seq LIMIT 1") == [("<Hostile without text>",)]


def test_an_event_that_the_service_refuses_does_not_cost_its_neighbours(service: Any, make_handler: Any) -> None:
    handler = make_handler(service.url, email="not an address")
    logger_of(handler).info("refused")
    assert handler.wait(20)
    assert (handler.sent, handler.dropped, service.count()) == (0, 1, 0)


def fail(reason: str) -> None:
    raise RuntimeError(reason)


def test_tracebacks_and_stacks_keep_their_ends(service: Any, make_handler: Any) -> None:
    """A traceback says at its end what went wrong, also one that a QueueHandler has made part of the message."""
    handler = make_handler(service.url)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    queued = logging.Logger("queued")  # noqa: LOG001
    queued.addHandler(logging.handlers.QueueHandler(records))
    for logger in (logger_of(handler), queued):
        try:
            fail("it began so " + "y" * 40_000 + " the cause")
        except RuntimeError:
            logger.exception("failed", stack_info=True)
    listener.stop()
    assert handler.wait(20)
    events = service.rows("SELECT message, data->>'exception', data->>'stack' FROM event ORDER BY component DESC")
    (message, exception, stack), (whole, _, _) = events
    assert message == "failed"
    assert exception.startswith("Traceback (most recent call last)")
    assert exception.endswith("the cause")
    assert stack.startswith("Stack (most recent call last)")
    assert whole.startswith("failed\nTraceback")
    assert "logger.exception(" in whole.splitlines()[-1]  # the stack comes last there


def test_what_a_record_brings_is_kept_beside_what_is_ours(service: Any, make_handler: Any) -> None:
    handler = make_handler(service.url)
    handler.setFormatter(logging.Formatter("%(levelname)s! %(message)s"))
    extra = {"level": "mine", "line": 7, "user": "u", "extra": 1}
    before = time.time()
    try:
        int("boom")
    except ValueError:
        logger_of(handler).exception("hello %s", "you", extra=extra)
    assert handler.wait(20)
    ((message, data, occurred_at),) = service.rows("SELECT message, data::text, occurred_at FROM event")
    stored = json.loads(data)
    assert message == "ERROR! hello you"
    assert before * 1_000_000_000 - 1000 <= occurred_at <= time.time_ns()
    assert (stored["level"], stored["levelNumber"], stored["user"]) == ("ERROR", 40, "u")
    assert stored["extra"] == {"level": "mine", "line": 7, "extra": 1}
    assert stored["exception"].endswith("'boom'")


def test_the_one_warning_tells_the_reason_of_the_service(service: Any, make_handler: Any, capfd: Any) -> None:
    for url, email, reason in [
        (service.url, "ops.example.com", "/email: is not a valid e-mail address"),
        (f"{service.url}/nowhere", "ops@example.com", "(HTTP 404)"),
        (f"{service.url}/healthz?x=", "ops@example.com", ""),
    ]:
        if not reason:
            with pytest.raises(ValueError, match="is not the URL of a service"):
                make_handler(url, email=email)
            continue
        handler = make_handler(url, email=email)
        for _ in range(3):
            logger_of(handler).info("x")
            assert handler.wait(20)
        warnings = [line for line in capfd.readouterr().err.splitlines() if "eventsvc.client" in line]
        assert len(warnings) == 1
        assert reason in warnings[0]
        assert (handler.sent, handler.dropped) == (0, 3)


def test_what_is_not_the_service_has_stored_nothing(make_handler: Any, capfd: Any) -> None:
    """Whatever answers 200: only the service's own count is counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handler = make_handler(f"http://127.0.0.1:{listener.getsockname()[1]}")
        logger_of(handler).info("to a stranger")
        handler.flush()
        client, _ = listener.accept()
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        assert handler.wait(20)
        client.close()
    assert (handler.sent, handler.dropped) == (0, 1)
    assert "no answer of eventsvc" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("localhost:8000", {}),
        ("ftp://localhost", {}),
        ("http://", {}),
        ("http://localhost:port", {}),
        ("http://localhost/?a=b", {}),
        ("http://localhost", {"api_key": "secret\n"}),
        ("http://localhost", {"api_key": "ünfit"}),
        ("http://localhost", {"batch": 0}),
        ("http://localhost", {"timeout": 0.0}),
    ],
)
def test_a_wrong_argument_is_told_where_it_was_given(make_handler: Any, url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"URL|api_key|at least|more than"):
        make_handler(url, **options)


def test_nothing_ends_the_sending_thread(service: Any, make_handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    request = urllib3.PoolManager.request
    faults = [ValueError("a fault of ours"), MemoryError()]

    def break_twice(*args: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return request(*args, **options)

    monkeypatch.setattr(urllib3.PoolManager, "request", break_twice)
    handler = make_handler(service.url)
    for number in range(3):
        logger_of(handler).info("try %d", number)
        assert handler.wait(20)
    assert (handler.sent, handler.dropped, service.count()) == (1, 2, 1)


_PROGRAM = """
import logging, os, sys
from eventsvc.client import EventHandler
handler = EventHandler(sys.argv[1], email="a@example.com", environment="test", interval=60.0)
logging.basicConfig(level=logging.INFO, handlers=[handler])
logging.info("parent before")
if sys.argv[2] == "fork" and os.fork() == 0:
    logging.info("child")
    sys.exit()
logging.info("parent after")
if sys.argv[2] == "fork":
    os.wait()
"""


@pytest.mark.parametrize(("mode", "expected"), [("plain", 2), ("fork", 3)])
def test_what_is_left_is_sent_at_the_end_of_the_program(service: Any, mode: str, expected: int) -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM, service.url, mode], check=True, timeout=60, env=os.environ)
    assert service.rows("SELECT count(*), count(DISTINCT message) FROM event") == [(expected, expected)]


def test_the_end_of_the_program_does_not_wait_for_ever() -> None:
    began = time.monotonic()
    program = _PROGRAM.replace("interval=60.0", "patience=0.5")
    subprocess.run(
        [sys.executable, "-c", program, "http://127.0.0.1:9", "plain"], check=True, timeout=60, env=os.environ
    )
    assert time.monotonic() - began < 10
