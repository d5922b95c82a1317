"""The README's tables that come from the code; ``make docs`` writes them, tests/test_docs.py compares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from eventsvc.settings import PREFIX, Settings

README = Path(__file__).parent.parent / "README.md"


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = f"`{default}`" if default not in ("", None) else ""
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def commands() -> dict[str, str]:
    """Every command with the first line of its help."""
    import typer

    from eventsvc.cli import app

    found: dict[str, str] = {}

    def walk(command: Any, path: str) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found[path] = (command.help or "").strip().splitlines()[0]
        else:
            for name, child in sorted(children.items()):
                if not child.hidden:
                    walk(child, f"{path} {name}")

    walk(typer.main.get_command(app), "eventsvc")
    return found


def commands_table() -> str:
    rows = ["| command | what it does |", "| --- | --- |"]
    return "\n".join(rows + [f"| `{name}` | {text} |" for name, text in commands().items()])


TABLES = {"settings": settings_table, "commands": commands_table}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)


def write() -> None:
    text = README.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        text = block(name).sub(lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
