"""A script that removes containers when its parent is gone: ``python janitor.py NAME…``.

Standard input is a pipe to which the parent writes nothing. The pipe ends when the parent ends, in whatever way. The
script is a file of its own, because it runs as a process of its own.
"""

from __future__ import annotations

import sys
from contextlib import closing, suppress


def main() -> None:
    """Wait until the parent is gone, then remove the containers."""
    sys.stdin.buffer.read()
    import docker

    with closing(docker.from_env()) as engine:
        for name in sys.argv[1:]:
            with suppress(docker.errors.APIError):  # usually the parent has removed the container
                container = engine.containers.get(name)
                container.stop(timeout=20)
                container.remove(force=True, v=True)


if __name__ == "__main__":
    main()
