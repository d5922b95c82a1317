"""Run as a script: remove containers as soon as whoever started us is gone, in whatever way.

``python janitor.py NAME…``; standard input is a pipe that nobody writes to: its end is the end of the other side.
"""

from __future__ import annotations

import sys
from contextlib import closing, suppress


def main() -> None:
    """Wait, then remove."""
    sys.stdin.buffer.read()
    import docker

    with closing(docker.from_env()) as engine:
        for name in sys.argv[1:]:
            with suppress(docker.errors.APIError):  # gone already: the usual case
                container = engine.containers.get(name)
                container.stop(timeout=20)
                container.remove(force=True, v=True)


if __name__ == "__main__":
    main()
