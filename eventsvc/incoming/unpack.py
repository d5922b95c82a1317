"""Decompress a body in bounded pieces, however large a small body may become."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import IO, Any

import zstandard

from eventsvc.errors import BodyTooLarge, InvalidBody

_LARGEST_WINDOW = 8 * 1024 * 1024  # bytes, the limit of RFC 9659 for Content-Encoding
_SLICE = 256  # packed bytes given to zstd at a time, which unpack to 8 MiB at worst


class Unpacked:
    """A decompressed body that counts its bytes and, on request, hashes them."""

    def __init__(self, packed: IO[bytes], encoding: str, limit: int, *, digest: bool = False) -> None:
        self._limit, self._size, self._encoding = limit, 0, encoding
        self._file: Any = packed
        if encoding == "gzip":
            self._file = gzip.GzipFile(fileobj=packed, mode="rb")
        elif encoding == "zstd":
            self._file = _ZstdFile(packed)
        self._digest = hashlib.blake2b(digest_size=32) if digest else None

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end.

        Raises:
            InvalidBody: the body is not in the format of Content-Encoding, or is cut short.
            BodyTooLarge: the body unpacks to more than the limit.
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
        """Give the hash of all bytes read so far."""
        return self._digest.digest() if self._digest is not None else b""


class _ZstdFile:
    """Reads zstd frames as one file. Unlike the library's own reader, it notices a truncated last frame."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._waiting, self._ready = packed, b"", b""
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._frame: Any = None

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end.

        Raises:
            EOFError: the last frame is truncated.
            zstandard.ZstdError: the bytes are not zstd.
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
