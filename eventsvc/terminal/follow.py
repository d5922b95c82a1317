"""Follow a log file: read the new lines, across rotations of the file and restarts of this program."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

_SAMPLE = 256  # bytes at the beginning of a file and before a position; files with the same inode number differ in them
# What a rotation adds to the name, such as .1 or -20260131; not .bak or .1.gz.
_ROTATED = re.compile(r"[.-]\d[\dT_.-]*")
# After a rotation, a program may write to the old file until it opens the new file. So the old file counts as finished
# only when, for this time, it was neither renamed nor written to.
_QUIET = 5.0  # seconds, as Fluent Bit waits by default (Rotate_Wait)
LONGEST = 1024 * 1024  # bytes of a line; the rest of a longer line counts as another line


@dataclass(frozen=True, slots=True)
class Position:
    """The place in a file where reading continues.

    Attributes:
        inode: the inode number of the file.
        offset: the number of bytes that are sent.
        digest: a digest of the beginning of the file and of the bytes before the position. A new file may get an old
            inode number, and another program may cut a file off and go on writing.
        sending: the offset of the end of a batch that was perhaps sent; 0 if there is no such batch.
        sending_digest: the digest for this end.
        key: the Idempotency-Key of this batch.
    """

    inode: int
    offset: int
    digest: str
    sending: int = 0
    sending_digest: str = ""
    key: str = ""

    def is_in(self, file: IO[bytes]) -> bool:
        """Tell whether a file has the same bytes before the position, and in the batch that was perhaps sent."""
        same = _digest(file, self.offset) == self.digest
        return same and (not self.sending or _digest(file, self.sending) == self.sending_digest)


class FollowedFile:
    """A log file of another program. Gives whole lines, and the rest of a rotated file before the new file.

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
        """Open the file. Begin at the kept position if the file or the file that a rotation made of it holds it."""
        file = self._find(kept) if kept is not None and (kept.offset or kept.sending) else None
        if kept is not None and file is not None:
            self._start(file, kept)
            return
        with suppress(FileNotFoundError):
            self._start(self._path.open("rb"))

    def _start(self, file: IO[bytes], kept: Position | None = None) -> None:
        if self._file is not None:
            self._file.close()
        inode = os.fstat(file.fileno()).st_ino
        self._file = file
        self.start = replace(kept, inode=inode) if kept is not None else Position(inode, 0, _digest(file, 0))

    def _start_next(self, finished: int) -> None:
        """Open the oldest rotated file that is newer than the finished file; if there is none, the followed file.

        Args:
            finished: when the finished file was written last, in ns since 1970.
        """
        for path in reversed(self._other_files()):
            name = path.name
            is_rotated = name.startswith(self._path.name) and _ROTATED.fullmatch(name[len(self._path.name) :])
            if is_rotated and path.stat().st_mtime_ns > finished:
                self._start(path.open("rb"))
                return
        self._open()

    def _find(self, kept: Position) -> IO[bytes] | None:
        """Open the file that holds a position: the followed file, or the file that it was renamed or copied to."""
        truncated = self._inode() == kept.inode  # then a copy has another inode number
        for path in [self._path, *self._other_files()]:
            with suppress(OSError):
                file = path.open("rb")
                status = os.fstat(file.fileno())
                same = status.st_ino == kept.inode or (truncated and path != self._path)
                if same and status.st_size >= max(kept.offset, kept.sending) and kept.is_in(file):
                    return file
                file.close()
        return None

    def _inode(self) -> int:
        """Give the inode number that the path has now; 0 if there is no such file."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino
        return 0

    def _other_files(self) -> list[Path]:
        """List the other files of the folder, the newest first."""
        with os.scandir(self._path.resolve().parent) as entries:
            files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        return [Path(one.path) for one in sorted(files, key=lambda one: -one.stat().st_mtime)]

    def read(self, most: int, most_bytes: int) -> tuple[list[bytes], Position]:
        """Read the next lines that have arrived, without line ends and without blank lines.

        If the last run ended after ``begin`` and before ``keep``, the first lines are those of its batch.

        Args:
            most: the most lines.
            most_bytes: no further line is read once the lines have so many bytes.

        Returns:
            The lines, perhaps none, and the position after the last line.
        """
        # Open the file if there was none before, or if the file was truncated.
        if self._file is None or not self.start.is_in(self._file):
            self._open(self.start if self._file is not None else None)
        if self._file is None:
            return [], self.start
        if self.start.sending:
            again = io.BytesIO(os.pread(self._file.fileno(), self.start.sending - self.start.offset, self.start.offset))
            lines, _ = self._lines(again, sys.maxsize, sys.maxsize, unfinished=True)
            return lines, Position(self.start.inode, self.start.sending, self.start.sending_digest)
        self._file.seek(self.start.offset)
        lines, offset = self._lines(self._file, most, most_bytes)
        if not lines and offset > self.start.offset:
            self.start = Position(self.start.inode, offset, _digest(self._file, offset))  # there were only blank lines
        if not lines and offset == self.start.offset and self._is_finished(self._file):
            self._file.seek(self.start.offset)
            lines, offset = self._lines(self._file, 1, LONGEST, unfinished=True)
            if not lines:
                self._start_next(os.fstat(self._file.fileno()).st_mtime_ns)
                return [], self.start
        return lines, Position(self.start.inode, offset, _digest(self._file, offset))

    def _is_finished(self, file: IO[bytes]) -> bool:
        """Tell whether the file was rotated, and no program writes to it any more."""
        if self._inode() in {0, self.start.inode}:
            return False
        return not 0 <= time.time() - os.fstat(file.fileno()).st_ctime < _QUIET  # a rename changes it, too

    def _lines(
        self, file: IO[bytes], most: int, most_bytes: int, *, unfinished: bool = False
    ) -> tuple[list[bytes], int]:
        """Read lines from the place where ``file`` stands. Give the lines, and the offset in the followed file.

        Args:
            file: the followed file, or a part of it.
            most: the most lines.
            most_bytes: see ``read``.
            unfinished: read a line without a line end, too.
        """
        lines: list[bytes] = []
        offset = self.start.offset
        while len(lines) < most and offset - self.start.offset < most_bytes and (line := file.readline(LONGEST)):
            if not (unfinished or line.endswith(b"\n") or len(line) == LONGEST):
                break
            offset += len(line)
            if line.strip():
                lines.append(line.removesuffix(b"\n").removesuffix(b"\r"))
        return lines, offset

    def begin(self, end: Position) -> str:
        """Record that the lines up to a position are sent now, and give the Idempotency-Key of this batch.

        If this run is killed, the next run sends the same lines with the same key, even if the file has grown.
        """
        start = self.start
        key = start.key or f"{start.inode}-{start.offset}-{end.offset}-{start.digest}"
        self._write(replace(start, sending=end.offset, sending_digest=end.digest, key=key))
        return key

    def keep(self, position: Position) -> None:
        """Keep a position: this run and the next run continue there."""
        self.start = position
        self._write(position)

    def _write(self, position: Position) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._kept.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(position)))
        unfinished.replace(self._kept)


def _digest(file: IO[bytes], offset: int) -> str:
    """Compute a digest of the beginning of a file and of the bytes before a position."""
    begin = os.pread(file.fileno(), min(_SAMPLE, offset), 0)
    before = os.pread(file.fileno(), min(_SAMPLE, offset), max(0, offset - _SAMPLE))
    return hashlib.sha256(begin + before).hexdigest()[:16]
