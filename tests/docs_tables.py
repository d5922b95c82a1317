"""The tables of the documentation that come from the code: ``make docs`` writes them, tests/test_docs.py compares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from eventsvc.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config" / "eventsvc.env.example"


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        shown = f"`{default}`" if (default := _default(field)) else ""
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def example() -> str:
    """Write every setting with its default, after the head of the file as it is."""
    head = EXAMPLE.read_text(encoding="utf-8").partition("\n\n")[0]
    entries = [
        f"# {field.description}\n#{PREFIX}{name.upper()}={_default(field)}\n"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([head + "\n", *entries])


def _default(field: Any) -> str:
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return "" if default is None else str(default)


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


# Each table stands in the page of its name, between comments of its name.
TABLES = {"settings": settings_table, "commands": commands_table}


def page(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)


def write() -> None:
    for name, table in TABLES.items():
        old = page(name).read_text(encoding="utf-8")
        found = block(name).search(old)
        assert found is not None, name
        new = f"{old[: found.start()]}{found[1]}{table()}\n{found[2]}{old[found.end() :]}"
        page(name).write_text(new, encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")


if __name__ == "__main__":
    write()
