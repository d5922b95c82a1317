"""A body without its Content-Encoding, in bounded pieces, however much a small body may unpack to."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import IO, Any

import zstandard

from eventsvc.errors import BodyTooLarge, InvalidBody

_LARGEST_WINDOW = 8 * 1024 * 1024  # bytes; what RFC 9659 allows for Content-Encoding
_SLICE = 256  # packed bytes given to zstd at a time: at worst they unpack to 8 MiB


class Unpacked:
    """What was sent, unpacked; it counts, and it digests what it hands out if asked to."""

    def __init__(self, packed: IO[bytes], encoding: str, limit: int, *, digest: bool = False) -> None:
        self._limit, self._size, self._encoding = limit, 0, encoding
        self._file: Any = packed
        if encoding == "gzip":
            self._file = gzip.GzipFile(fileobj=packed, mode="rb")
        elif encoding == "zstd":
            self._file = ZstdFile(packed)
        self._digest = hashlib.blake2b(digest_size=32) if digest else None

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end.

        Raises:
            InvalidBody: it is not what Content-Encoding says, or cut short.
            BodyTooLarge: beyond the limit.
        """
        try:
            block: bytes = self._file.read(size)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as exc:
            raise InvalidBody(f"the body is not whole {self._encoding}: {exc}") from exc
        self._size += len(block)
        if self._size > self._limit:
            raise BodyTooLarge(f"the body unpacks to more than {self._limit:,} bytes")
        if self._digest is not None:
            self._digest.update(block)
        return block

    def fingerprint(self) -> bytes:
        """Digest what was read so far."""
        return self._digest.digest() if self._digest is not None else b""


class ZstdFile:
    """Frames of zstd, read as one file; unlike the library's own, it notices an end that comes too soon."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._waiting, self._ready = packed, b"", b""
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._frame: Any = None

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end.

        Raises:
            EOFError: the last frame is not whole.
            zstandard.ZstdError: this is not zstd.
        """
        parts, length = [self._ready], len(self._ready)
        while length < size and (piece := self._packed_piece()):
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            part = self._frame.decompress(piece)
            if self._frame.eof:
                self._waiting = self._frame.unused_data + self._waiting
                self._frame = None
            parts.append(part)
            length += len(part)
        if length == 0 and self._frame is not None:
            raise EOFError("it ends inside a frame")
        whole = b"".join(parts)
        self._ready = whole[size:]
        return whole[:size]

    def _packed_piece(self) -> bytes:
        if not self._waiting:
            return self._packed.read(_SLICE)
        piece, self._waiting = self._waiting[:_SLICE], self._waiting[_SLICE:]
        return piece
