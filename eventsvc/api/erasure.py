"""POST /erasure, GET /erasure and GET /erasure/{id}: erase the events that match a query, and list erasures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import falcon
import msgspec

from eventsvc.api import media
from eventsvc.api.access import restricted
from eventsvc.erasure import erase
from eventsvc.errors import ErasureNotFound, InvalidParameter
from eventsvc.event import format_moment
from eventsvc.log.progress import erasures

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.erasure.erase import Preview
    from eventsvc.log.connection import Pool
    from eventsvc.log.progress.erasures import Erasure

_LONGEST_REASON = 500  # characters
_LISTED = 100


class _Asked(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body of POST /erasure."""

    q: str
    reason: str
    tz: str = "UTC"
    dry_run: bool = False
    until_now: bool = False


class ErasuresResource:
    """The collection of erasures."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def on_post(self, req: Request, resp: Response) -> None:
        """Erase the matching events, or count them if dryRun. Answers 200 if it is done, 202 if it continues."""
        asked = await _read(req)
        query_thread, now = req.context.query_thread, round(time.time() * 1000)
        node = await query_thread.run(
            asked.q, lambda: restricted(req, query_thread.parse(asked.q, now=now, tz=asked.tz))
        )
        if asked.dry_run:
            found = await self._pool.run(lambda connection: erase.preview(connection, node))
            media.send_json(resp, _render_preview(found))
            return
        request = erase.ErasureRequest(node, asked.reason.strip(), _asker(req), until_now=asked.until_now)
        done = await self._pool.run(lambda connection: erase.begin(connection, request))
        resp.context.audit = {"erasure": done.id, "events": done.counted}
        resp.status = falcon.HTTP_202 if done.finished_at is None else falcon.HTTP_200
        resp.set_header("Location", f"/erasure/{done.id}")
        media.send_json(resp, _render(done))

    async def on_get(self, req: Request, resp: Response) -> None:
        """List the newest erasures."""
        found = await self._pool.run(lambda connection: erasures.list_newest(connection, _LISTED))
        media.send_json(resp, [_render(one) for one in found if _may_see(req, one)])

    async def on_get_one(self, req: Request, resp: Response, erasure_id: str) -> None:
        """Answer with one erasure and its progress."""
        try:
            canonical = str(UUID(erasure_id))
        except ValueError:
            raise ErasureNotFound(erasure_id) from None
        found = await self._pool.run(lambda connection: erasures.read(connection, canonical))
        if found is None or not _may_see(req, found):
            raise ErasureNotFound(erasure_id)
        media.send_json(resp, _render(found))


async def _read(req: Request) -> _Asked:
    how = ": q and reason, and dryRun or untilNow if you like"
    asked = await media.read_json(req, _Asked, how=how, shape="the body must be an object with q and reason")
    if not 0 < len(asked.reason.strip()) <= _LONGEST_REASON or "\0" in asked.reason:
        raise InvalidParameter("reason", f"it must say why, in 1 to {_LONGEST_REASON} characters")
    return asked


def _may_see(req: Request, erasure: Erasure) -> bool:
    """Tell whether the key may see an erasure. A restricted key sees its own only: others count events outside."""
    return not req.context.grant.where or erasure.asked_by == _asker(req)


def _asker(req: Request) -> str:
    return req.context.grant.name or "nobody (no keys are in use)"


def _render(erasure: Erasure) -> dict[str, Any]:
    """Give the JSON form of an erasure."""
    return {
        "id": erasure.id,
        "state": "running" if erasure.finished_at is None else "done",
        "count": erasure.counted,
        "erased": erasure.erased,
        "reason": erasure.reason,
        "queryDigest": erasure.digest,
        "untilNow": erasure.upto is not None,
        "askedBy": erasure.asked_by,
        "askedAt": format_moment(erasure.asked_at),
        "finishedAt": None if erasure.finished_at is None else format_moment(erasure.finished_at),
    }


def _render_preview(found: Preview) -> dict[str, Any]:
    return {
        "dryRun": True,
        "count": found.count,
        "months": [{"month": f"{month:%Y-%m}", "count": count} for month, count in found.months],
        "held": [{"hold": name, "count": count} for name, count in found.held],
    }
