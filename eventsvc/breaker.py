"""A circuit breaker: while a server is away, requests do without the server instead of waiting for a time-out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

_logger = structlog.get_logger(__name__)

# A quick failure costs nothing, and trying again notices at once that the server is back.
_QUICK = 0.1  # seconds


class Breaker:
    """A circuit breaker for one server.

    While the breaker is closed, callers use the server. While the breaker is open, callers do without the server, and a
    background task probes the server until it answers. Then the breaker closes.

    Args:
        probe: asks the server; raises while the server is away.
        name: the name of the server in log lines.
        shortest: seconds before the first probe. The pause doubles after each failure.
        longest: seconds of the longest pause.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[None]], *, name: str, shortest: float = 0.5, longest: float = 10.0
    ) -> None:
        self._probe, self._name = probe, name
        self._shortest, self._longest = shortest, longest
        self._probing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether callers may use the server."""
        return self._probing is None

    def failed(self, began: float) -> None:
        """Report a failed request, which opens the breaker, unless the request failed within 0.1 seconds.

        Args:
            began: when the request began (``time.monotonic``).
        """
        if self._probing is None and time.monotonic() - began >= _QUICK:
            _logger.warning("it does not answer: doing without it until it does", what=self._name)
            self._probing = asyncio.create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        pause = self._shortest
        while True:
            await asyncio.sleep(pause)
            try:
                await self._probe()
            except Exception as exc:  # noqa: BLE001  (whatever it is, it is not back)
                _logger.debug("still away", what=self._name, reason=str(exc))
                pause = min(pause * 2, self._longest)
            else:
                _logger.info("it answers again", what=self._name)
                self._probing = None
                return

    async def close(self) -> None:
        """Stop the probe."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
