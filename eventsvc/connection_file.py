"""The connection file: a running ``eventsvc dev`` writes its addresses there, and commands without a URL read them.

The file lies in the data folder. The development server holds a lock on the file. So a file that a killed server has
left behind is recognised, even after its process id has gone to another process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from eventsvc.errors import SetupError

DATA = "EVENTSVC_DATA"
DEFAULT_FOLDER = ".eventsvc"
_NAME = "connection"


@contextmanager
def publish(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Write the file, readable by its owner only, and remove it at the end of the context."""
    import fcntl

    path = folder / _NAME
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        unfinished.rename(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def read(data: str | None = None) -> dict[str, str]:
    """Read the variables of the running development server, and report on stderr; {} if no server runs.

    Args:
        data: the data folder; None for EVENTSVC_DATA or ``.eventsvc``.

    Raises:
        SetupError: the folder was named, and no development server runs with it.
    """
    named = data or os.environ.get(DATA)
    path = Path(named or DEFAULT_FOLDER) / _NAME
    variables, why = _look(path)
    if variables:
        _say(f"using the development server of {path.parent}")
    elif named:
        why = why or f"no development server runs with the data folder {named}"
        raise SetupError(f"{why}: start one with `eventsvc dev --data {named}`, or name a URL")
    elif why:
        _say(f"{why}: left alone; start one with `eventsvc dev`, or name a URL")
    return variables


def _look(path: Path) -> tuple[dict[str, str], str]:
    """Read the file of a running development server, or say why the file is of no use."""
    try:
        with path.open(encoding="utf-8") as file:
            if not _is_held(file):
                return {}, f"the development server that wrote {path} has ended"
            return dict(line.rstrip("\n").partition("=")[::2] for line in file), ""
    except FileNotFoundError:
        return {}, ""
    except OSError as exc:
        return {}, f"{path} cannot be read ({exc.strerror})"


def _is_held(file: IO[str]) -> bool:
    import fcntl  # not on every system that the commands for people run on

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _say(text: str) -> None:
    print(f"eventsvc: {text}", file=sys.stderr)  # noqa: T201
