"""Bytes ↔ objects: JSON, NDJSON, limits while reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventsvc.errors import BodyTooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from falcon.asgi import Request

BODY_LIMIT = 1024 * 1024


async def read_body(req: Request, *, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        BodyTooLarge: beyond the limit; noticed while reading, whatever Content-Length says.
        UnsupportedMediaType: it is not JSON.
    """
    _check_type(req)
    length = req.content_length
    if length is not None and length > limit:
        raise BodyTooLarge(f"the body is {length:,} bytes; at most {limit:,} are allowed")
    chunks: list[bytes] = []
    size = 0
    async for chunk in req.stream:
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit:,} bytes")
    return b"".join(chunks)


def _check_type(req: Request) -> None:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(f"Content-Type is {media_type or 'missing'}; send application/json")
