"""Encoded bodies: whole ones are read, cut ones are noticed, bombs stay small."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from eventsvc.errors import BodyTooLarge, InvalidBody
from eventsvc.incoming.unpack import Unpacked

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress, "": bytes}
packed_as = pytest.mark.parametrize("encoding", ["gzip", "zstd"])


def read_all(packed: bytes, encoding: str, limit: int = 10**9) -> bytes:
    unpacked = Unpacked(io.BytesIO(packed), encoding, limit)
    return b"".join(iter(lambda: unpacked.read(1000), b""))


@pytest.mark.parametrize("encoding", list(PACKERS))
def test_a_body_comes_out_as_it_was(encoding: str) -> None:
    body = bytes(range(256)) * 1000
    assert read_all(PACKERS[encoding](body), encoding) == body


@packed_as
def test_several_members_are_one_body(encoding: str) -> None:
    assert read_all(PACKERS[encoding](b"one ") + PACKERS[encoding](b"two"), encoding) == b"one two"


@packed_as
def test_an_empty_body_is_empty(encoding: str) -> None:
    assert read_all(b"", encoding) == b""


@packed_as
@pytest.mark.parametrize("left", [1, 3, 10])
def test_a_cut_body_is_noticed(encoding: str, left: int) -> None:
    packed = PACKERS[encoding](bytes(range(256)))
    with pytest.raises(InvalidBody, match="the body is not whole"):
        read_all(packed[:-left], encoding)


@packed_as
def test_something_else_is_noticed(encoding: str) -> None:
    with pytest.raises(InvalidBody, match="the body is not whole"):
        read_all(b'{"not": "packed"}' * 100, encoding)


@packed_as
def test_a_bomb_is_stopped_at_the_limit_in_little_memory(encoding: str) -> None:
    bomb = PACKERS[encoding](bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match="unpacks to more than 10,000,000 bytes"):
            read_all(bomb, encoding, 10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_fingerprint_is_of_the_unpacked_body() -> None:
    found = set()
    for encoding, pack in PACKERS.items():
        unpacked = Unpacked(io.BytesIO(pack(b"x" * 5000)), encoding, 10**6, digest=True)
        while unpacked.read(999):
            pass
        found.add(unpacked.fingerprint())
    assert len(found) == 1
