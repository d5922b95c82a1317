"""The table ``saved_view``: views of the page that are kept for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eventsvc.errors import Forbidden, InvalidParameter, ViewNotFound
from eventsvc.log.connection import Connection, fetch

MOST = 1000  # views in all
_SHOWN = "SELECT name, address, saved_by, saved_at FROM saved_view WHERE saved_by = coalesce(%s, saved_by)"
_LIST = f"{_SHOWN} ORDER BY lower(name), name"
_ONE = f"{_SHOWN} AND name = %s"
_PUT = (
    "INSERT INTO saved_view (name, address, saved_by) VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE"
    " SET address = excluded.address, saved_by = excluded.saved_by, saved_at = excluded.saved_at"
    " WHERE saved_view.saved_by = excluded.saved_by OR %s RETURNING name, address, saved_by, saved_at"
)
_REMOVE = "DELETE FROM saved_view WHERE name = %s AND (saved_by = %s OR %s) RETURNING name"


@dataclass(frozen=True, slots=True)
class View:
    """A saved view.

    Attributes:
        address: the query of the page's URL, without the question mark.
        saved_by: the name of the key that saved the view last; "" where no keys are in use.
    """

    name: str
    address: str
    saved_by: str
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class Saver:
    """The key that saves or removes views.

    Attributes:
        name: the name of the key.
        any_view: whether the key may change the views of other keys.
    """

    name: str
    any_view: bool


def list_views(connection: Connection, saved_by: str | None = None) -> list[View]:
    """List the views by name; all of them, or those that one key saved."""
    return [View(*row) for row in fetch(connection, _LIST, (saved_by,))]


def read_view(connection: Connection, name: str, saved_by: str | None = None) -> View:
    """Give one view.

    Raises:
        ViewNotFound: no view has this name, or another key than ``saved_by`` saved it.
    """
    found = fetch(connection, _ONE, (saved_by, name))
    if not found:
        raise ViewNotFound(name)
    return View(*found[0])


def put_view(connection: Connection, name: str, address: str, saver: Saver) -> View:
    """Save a view. A view of the same name is replaced.

    Raises:
        Forbidden: another key has saved the view of this name.
        InvalidParameter: there are too many views.
    """
    ((others,),) = fetch(connection, "SELECT count(*) FROM saved_view WHERE name <> %s", (name,))
    if others >= MOST:
        raise InvalidParameter("name", f"there are {MOST:,} views already: remove one first")
    saved = fetch(connection, _PUT, (name, address, saver.name, saver.any_view))
    if not saved:
        raise _somebody_elses(name)
    return View(*saved[0])


def remove_view(connection: Connection, name: str, saver: Saver) -> None:
    """Remove a view.

    Raises:
        ViewNotFound: no view has this name.
        Forbidden: another key has saved the view.
    """
    removed = fetch(connection, _REMOVE, (name, saver.name, saver.any_view))
    if not removed:
        read_view(connection, name)
        raise _somebody_elses(name)


def _somebody_elses(name: str) -> Forbidden:
    return Forbidden(f"the view {name!r} was saved by another key; it, or a key with the right admin, may change it")
