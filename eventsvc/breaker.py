"""A circuit breaker: what is away must not cost every request the time it takes to find that out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger(__name__)

# A failure that comes quickly costs nothing, and trying again is how recovery is noticed at once.
_QUICK = 0.1  # seconds


class Breaker:
    """Closed: go ahead. Open: do not even try; a probe in the background closes it again.

    No request is ever spent on finding out whether the other side is back.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[None]], *, name: str, shortest: float = 0.5, longest: float = 10.0
    ) -> None:
        self._probe, self._name = probe, name
        self._shortest, self._longest = shortest, longest
        self._probing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether to try."""
        return self._probing is None

    def failed(self, began: float) -> None:
        """Say that an attempt failed which began at this ``time.monotonic()``."""
        if self._probing is None and time.monotonic() - began >= _QUICK:
            _log.warning("it does not answer: doing without it until it does", what=self._name)
            self._probing = asyncio.create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        pause = self._shortest
        while True:
            await asyncio.sleep(pause)
            try:
                await self._probe()
            except Exception as exc:  # noqa: BLE001  (whatever it is, it is not back)
                _log.debug("still away", what=self._name, reason=str(exc))
                pause = min(pause * 2, self._longest)
            else:
                _log.info("it answers again", what=self._name)
                self._probing = None
                return

    async def close(self) -> None:
        """Stop probing."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
