"""``eventsvc admin``: the group, which loads and builds its commands only when a user asks for one of them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from eventsvc import connection_file

if TYPE_CHECKING:
    from typer._click import Command


class _LateGroup(TyperGroup):
    """Builds its commands late, because typer takes some milliseconds for each of them."""

    _built: MutableMapping[str, Command] | None = None

    @property
    def commands(self) -> MutableMapping[str, Command]:
        if self._built is None:
            self._built = _build()
        return self._built

    @commands.setter
    def commands(self, _none: MutableMapping[str, Command]) -> None:
        """Ignore the empty dict that the constructor sets."""


admin = typer.Typer(cls=_LateGroup, help="Operate the log and the index.", no_args_is_help=True)


@admin.callback()
def _server(
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Data folder of a development server, which is used if no URL is given.",
            show_default=f"{connection_file.DATA}, {connection_file.DEFAULT_FOLDER}",
        ),
    ] = None,
) -> None:
    if data is not None:
        os.environ[connection_file.DATA] = data


def _build() -> MutableMapping[str, Command]:
    from eventsvc.admin.commands import erasure, index, keys, setup, transfer

    late = typer.Typer(rich_markup_mode=None)
    for module in (setup, index, erasure, keys, transfer):
        module.register(late)
    return typer.main.get_group(late).commands
