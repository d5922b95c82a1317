"""Give freed memory back to the operating system.

glibc keeps the memory that a process has freed, and Python frees small pieces between pieces that are still in use. So
after many large answers, a worker would keep 60 MiB more for ever.
"""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

# M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in bytes, M_ARENA_MAX; see malloc.h.
_MALLOC = {-3: 512 * 1024, -1: 2 * 1024**2, -8: 2}
_GROWTH = 16 * 1024**2  # bytes


def configure_allocator() -> None:
    """Let the C library return large blocks to the system at once, and keep no heap for each thread.

    By default, glibc adapts to the largest blocks it has seen.
    """
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


class Trimmer:
    """Returns the free pieces of this process's memory to the system, if the process has grown since its start."""

    def __init__(self) -> None:
        self._at_start = _resident()

    def trim_if_grown(self) -> None:
        """Trim if the process has 16 MiB more than at its start. A trim takes a few milliseconds."""
        if _resident() > self._at_start + _GROWTH:
            with suppress(OSError, AttributeError):  # another C library
                ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Give the resident memory of this process in bytes; 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return 0
