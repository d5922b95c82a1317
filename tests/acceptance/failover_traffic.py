"""The writers of failover.py, and what was acknowledged to them."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import urllib3


class Traffic:
    """Writers that send until acknowledged; what was acknowledged, and when."""

    def __init__(self, url: str) -> None:
        self.url, self.lock, self.stopping = url, threading.Lock(), threading.Event()
        self.turns = [threading.Lock() for _ in range(4)]  # each held while its writer has a request under way
        self.going = threading.Event()
        self.going.set()
        self.acknowledged: dict[str, str] = {}
        self.times: list[float] = []
        self.threads = [threading.Thread(target=self._write, args=(turn,)) for turn in self.turns]

    def _write(self, turn: threading.Lock) -> None:
        http = urllib3.PoolManager()
        while not self.stopping.is_set():
            message = uuid.uuid4().hex
            event = {"email": "a@b.cd", "environment": "failover", "component": "writer", "message": message}
            headers = {"Idempotency-Key": f'"{message}"'}
            while not self.stopping.is_set():
                self.going.wait()
                with turn, suppress(urllib3.exceptions.HTTPError):
                    answer = http.request(
                        "POST", f"{self.url}/event", json=event, headers=headers, timeout=30, retries=False
                    )
                    if answer.status in {200, 201}:
                        with self.lock:
                            self.acknowledged[message] = answer.json()["id"]
                            self.times.append(time.monotonic())
                        break
                self.stopping.wait(0.05)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let no request be under way meanwhile."""
        self.going.clear()
        try:
            with ExitStack() as held:
                for turn in self.turns:
                    held.enter_context(turn)
                yield
        finally:
            self.going.set()

    def forget(self, lost: set[str]) -> None:
        """Do not expect these events any more."""
        with self.lock:
            for message in lost:
                del self.acknowledged[message]

    def longest_gap(self, since: float) -> float:
        """Seconds in which nobody was acknowledged."""
        with self.lock:
            times = [since, *(at for at in self.times if at >= since)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
