"""Follow a log file: read the new lines, across rotations of the file and restarts of this program."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

_BEGIN = 256  # bytes at the beginning of a file; two files with the same inode number differ in them
_LONGEST = 1024 * 1024  # bytes of a line; the rest of a longer line counts as another line


@dataclass(frozen=True, slots=True)
class Position:
    """The place in a file where reading continues.

    Attributes:
        inode: the inode number of the file.
        offset: the number of bytes that are sent.
        digest: a digest of the beginning of the file, because a new file may get an old inode number.
    """

    inode: int
    offset: int
    digest: str


class FollowedFile:
    """A log file of another program. Gives whole lines only, and the rest of a rotated file before the new file.

    The position is kept in the user's state folder (XDG Base Directory), separately for each file and service.
    """

    def __init__(self, path: Path, service: str) -> None:
        self._path = path.absolute()
        name = hashlib.sha256(f"{self._path}\0{service}".encode()).hexdigest()[:24]
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        self._kept = state / "eventsvc" / f"{name}.json"
        self._file: IO[bytes] | None = None
        self.start = Position(0, 0, "")

    def __enter__(self) -> Self:
        self._open(self._read_kept())
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def _read_kept(self) -> Position | None:
        with suppress(OSError, ValueError, TypeError):
            return Position(**json.loads(self._kept.read_text()))
        return None

    def _open(self, kept: Position | None = None) -> None:
        """Open the file. Begin at the kept position if the path still names the same file."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        status = os.fstat(file.fileno())
        digest = hashlib.sha256(file.read(min(_BEGIN, kept.offset if kept else _BEGIN))).hexdigest()[:16]
        same = (
            kept is not None and (kept.inode, kept.digest) == (status.st_ino, digest) and kept.offset <= status.st_size
        )
        offset = kept.offset if kept is not None and same else 0
        file.seek(offset)
        if self._file is not None:
            self._file.close()
        self._file, self.start = file, Position(status.st_ino, offset, self._digest(file, offset))

    @staticmethod
    def _digest(file: IO[bytes], offset: int) -> str:
        file.seek(0)
        begin = file.read(min(_BEGIN, offset))
        file.seek(offset)
        return hashlib.sha256(begin).hexdigest()[:16]

    def read(self, most: int) -> tuple[list[bytes], Position]:
        """Read the next whole lines, at most ``most``. Give the lines, or none if there are none yet, and their end."""
        if self._file is None:
            self._open()
        if self._file is None:
            return [], self.start
        lines, offset = self._whole_lines(self._file, most)
        if not lines and offset == self.start.offset and self._is_rotated():
            self._open()
            return [], self.start
        return lines, Position(self.start.inode, offset, self._digest(self._file, offset))

    def _whole_lines(self, file: IO[bytes], most: int) -> tuple[list[bytes], int]:
        file.seek(self.start.offset)
        lines: list[bytes] = []
        offset = self.start.offset
        while len(lines) < most and (line := file.readline(_LONGEST)):
            if not line.endswith(b"\n") and len(line) < _LONGEST:
                break
            offset += len(line)
            if text := line.strip():
                lines.append(text)
        if not lines and offset > self.start.offset:
            self.start = Position(self.start.inode, offset, self._digest(file, offset))  # there were only blank lines
        return lines, offset

    def _is_rotated(self) -> bool:
        """Tell whether the path names another file by now, or the file was truncated."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return status.st_ino != self.start.inode or status.st_size < self.start.offset

    def keep(self, position: Position) -> None:
        """Keep a position: this run and the next run continue there."""
        self.start = position
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._kept.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(position)))
        unfinished.replace(self._kept)
