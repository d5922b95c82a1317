"""How long a piece of work takes, whatever else the machine has to do."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def least_seconds(work: Callable[[], object], *, tries: int = 4) -> float:
    """The processor time of this thread, the least of a few tries. What earlier tests left is not looked through."""
    taken = []
    gc.freeze()
    try:
        for _ in range(tries):
            began = time.thread_time()
            work()
            taken.append(time.thread_time() - began)
    finally:
        gc.unfreeze()
    return min(taken)
