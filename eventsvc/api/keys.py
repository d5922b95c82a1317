"""GET and POST /key, DELETE /key/{id} and POST /key/{id}/rotation: ``eventsvc admin keys`` over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import falcon
import msgspec

from eventsvc.access import store
from eventsvc.access.rights import Right, read_age
from eventsvc.api import media
from eventsvc.errors import Forbidden, InvalidParameter, KeyNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from falcon.asgi import Request, Response

    from eventsvc.access.store import Made
    from eventsvc.log.connection import Connection, Pool

T = TypeVar("T")

# The names of options of the command, and the members of the body that they stand for.
_NAMES = {"NAME": "name", "--right": "rights", "--default": "defaults", "--rate": "rate"}


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /key."""

    name: str
    rights: list[Right]
    where: str = ""
    defaults: dict[str, str] = {}
    rate: str = ""
    expires: str = ""


class _Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /key/{id}/rotation."""

    grace: str = "24h"


class KeysResource:
    """The resource of /key, /key/{id} and /key/{id}/rotation."""

    types = (media.JSON,)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with all keys that were ever made, oldest first."""
        await self._run(req, resp, lambda connection: [key.to_json() for key in store.list_keys(connection)])

    async def on_post(self, req: Request, resp: Response) -> None:
        """Make a key. Only this answer shows its text."""
        asked = await _read(req, _Wanted)
        life = read_age("expires", asked.expires) if asked.expires else None
        wanted = store.Wanted(asked.name, asked.rights, asked.where, asked.defaults, asked.rate, life)
        resp.status = falcon.HTTP_201
        await self._run(req, resp, lambda connection: _show(resp, store.create(connection, wanted)))

    async def on_delete_one(self, req: Request, resp: Response, key_id: str) -> None:
        """Revoke a key. Within 5 seconds every process refuses it."""
        _check_id(key_id)
        resp.context.audit = {"revoked": key_id}
        await self._run(req, resp, lambda connection: {"revoked": store.revoke_id(connection, key_id)})

    async def on_post_rotation(self, req: Request, resp: Response, key_id: str) -> None:
        """Replace a key by a new key. The old key stays good for a time."""
        _check_id(key_id)
        grace = read_age("grace", (await _read(req, _Rotation)).grace)

        def rotate(connection: Connection) -> dict[str, Any]:
            return _show(resp, store.rotate(connection, store.name_of(connection, key_id), grace))

        resp.status = falcon.HTTP_201
        await self._run(req, resp, rotate)

    async def _run(self, req: Request, resp: Response, work: Callable[[Connection], Any]) -> None:
        if req.context.grant.where:
            raise Forbidden("a key that sees a part of the log only has nothing to do with keys")
        try:
            found = await self._pool.run(work)
        except InvalidParameter as exc:
            raise InvalidParameter(_NAMES.get(exc.name, exc.name), exc.detail) from exc
        media.send_json(resp, found)


def _show(resp: Response, made: Made) -> dict[str, Any]:
    resp.context.audit = {"made": made.key.id, "of": made.key.name}
    return {"key": made.text} | made.key.to_json()


def _check_id(text: str) -> None:
    if "\0" in text:  # PostgreSQL knows no such text
        raise KeyNotFound(text)


async def _read(req: Request, kind: type[T]) -> T:
    return await media.read_json(req, kind, how="", shape="the body is not as /openapi.json says")
