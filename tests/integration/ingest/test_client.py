"""The logging handler against the real service, also one that is away, hangs or refuses."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventsvc.client import EventHandler


@pytest.fixture
def make_handler() -> Iterator[Callable[..., EventHandler]]:
    made: list[EventHandler] = []

    def make(url: str, **options: Any) -> EventHandler:
        values = {"email": "ops@example.com", "environment": "test", "interval": 0.05, "patience": 0.2, "timeout": 5.0}
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
    assert time.perf_counter() - began < 2
    assert handler.dropped >= 1_900
    began = time.perf_counter()
    handler.close()
    assert time.perf_counter() - began < 3
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
        assert time.perf_counter() - began < 3
        assert handler.dropped == 1


def test_records_that_cannot_be_written_harm_nobody(service: Any, make_handler: Any) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    handler = make_handler(service.url)
    logger = logger_of(handler)
    logger.info("%d", "not a number")
    logger.info("x", extra={"hostile": Hostile()})
    logger.info("fine", extra={"nul": "\0", "nan": float("nan"), "half": "\ud800"})
    assert handler.wait(20)
    assert (handler.sent, handler.dropped) == (1, 2)


def test_an_event_that_the_service_refuses_does_not_cost_its_neighbours(service: Any, make_handler: Any) -> None:
    handler = make_handler(service.url, email="not an address")
    logger_of(handler).info("refused")
    assert handler.wait(20)
    assert (handler.sent, handler.dropped, service.count()) == (0, 1, 0)


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
