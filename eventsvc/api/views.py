"""GET /view, and GET, PUT and DELETE /view/{name}: views of the page that are kept for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from eventsvc.access.rights import Right
from eventsvc.api import media
from eventsvc.errors import InvalidParameter, ViewNotFound
from eventsvc.event import format_moment
from eventsvc.log import views
from eventsvc.log.views import Saver, View

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.log.connection import Pool

LONGEST_NAME, LONGEST_ADDRESS = 80, 8192  # characters


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /view/{name}."""

    address: str


class ViewsResource:
    """The resource of /view and /view/{name}."""

    types = (media.JSON,)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def on_get(self, req: Request, resp: Response) -> None:
        """List the views by name."""
        own = _own(req)
        found = await self._pool.run(lambda connection: views.list_views(connection, own))
        media.send_json(resp, [_render(view) for view in found])

    async def on_get_one(self, req: Request, resp: Response, name: str) -> None:
        """Show one view."""
        if not _is_name(name):
            raise ViewNotFound(name)
        own = _own(req)
        media.send_json(resp, _render(await self._pool.run(lambda connection: views.read_view(connection, name, own))))

    async def on_put_one(self, req: Request, resp: Response, name: str) -> None:
        """Save a view. A view of the same name is replaced."""
        if not _is_name(name):
            raise InvalidParameter("name", f"it must be 1 to {LONGEST_NAME} characters that can be seen, without /")
        shape = "the body must be an object with address"
        address = (await media.read_json(req, _Wanted, how=": address", shape=shape)).address.removeprefix("?")
        if len(address) > LONGEST_ADDRESS or not address.isprintable():
            raise InvalidParameter("address", f"it must be the query of a URL, of up to {LONGEST_ADDRESS:,} characters")
        resp.context.audit = {"view": name}
        saver = _saver(req)
        media.send_json(resp, _render(await self._pool.run(lambda one: views.put_view(one, name, address, saver))))

    async def on_delete_one(self, req: Request, resp: Response, name: str) -> None:
        """Remove a view."""
        if not _is_name(name):
            raise ViewNotFound(name)
        resp.context.audit = {"view": name}
        saver = _saver(req)
        await self._pool.run(lambda connection: views.remove_view(connection, name, saver))
        media.send_json(resp, {"removed": name})


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip() and "/" not in text


def _own(req: Request) -> str | None:
    """Give the name of a restricted key. Such a key sees only its own views, because other views may quote events."""
    grant = req.context.grant
    return grant.name if grant.where else None


def _saver(req: Request) -> Saver:
    grant = req.context.grant
    return Saver(grant.name, any_view=grant.allows(Right.ADMIN) and not grant.where)


def _render(view: View) -> dict[str, Any]:
    saved_at = format_moment(view.saved_at)
    return {"name": view.name, "address": view.address, "savedBy": view.saved_by, "savedAt": saved_at}
