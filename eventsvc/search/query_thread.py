"""Parse queries outside the event loop: a query of 8,000 characters takes up to 50 ms of processor time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from eventsvc.errors import QueriesQueued
from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.times import may_move
from eventsvc.turns import Turns

T = TypeVar("T")

_SHORT = 256  # characters, which take up to 2 ms: parsed at once
MOST_WAITING = 32  # long queries in one process, being parsed or waiting
_KEPT = 64  # trees, each up to 200 kB for a query of 8,000 characters


class QueryThread:
    """Parses short queries at once, and long queries one after the other in a thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queries")
        self._kept = lru_cache(_KEPT)(parse)
        self._turns = Turns(1, MOST_WAITING - 1, lambda count: QueriesQueued(f"{count} long queries wait to be read"))

    def parse(self, text: str, *, now: int, tz: str) -> ast.Node:
        """Parse a query as ``query.parse.parse`` does. The tree is cached if it does not depend on the time."""
        return parse(text, now=now, tz=tz) if may_move(text) else self._kept(text, now=0, tz=tz)

    async def run(self, text: str, work: Callable[[], T]) -> T:
        """Run work on a query: at once if the query is short, else in the thread.

        Raises:
            QueriesQueued: too many long queries wait already.
        """
        if len(text) <= _SHORT:
            return work()
        async with self._turns:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
