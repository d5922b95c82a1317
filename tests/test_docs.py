"""The documents say what the code does: tables, routes, commands, links."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from falcon import inspect

from eventsvc.app import create_app
from eventsvc.query.mistakes import OPERATORS
from eventsvc.settings import load
from tests import docs_tables as tables

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["settings", "commands"])
def test_tables_are_those_of_the_code(name: str) -> None:
    """Run ``make docs`` when this fails."""
    found = tables.block(name).search(tables.page(name).read_text(encoding="utf-8"))

    assert found is not None
    assert f"<!-- {name} -->\n{tables.TABLES[name]()}\n<!-- /{name} -->" == found[0]


def test_every_route_has_a_row_in_the_table_of_routes() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    app = create_app(load({}))
    routes = {
        f"`{method.method} {route.path}`"
        for route in inspect.inspect_routes(app)
        for method in route.methods
        if not method.internal and method.method != "HEAD"  # wherever GET is
    }

    assert [] == sorted(route for route in routes if route not in text)


def test_the_readme_leads_to_every_page(readme: str) -> None:
    pages = sorted((ROOT / "docs").glob("*.md"))

    assert [] == [page.name for page in pages if f"](docs/{page.name})" not in readme]


def test_every_operator_has_an_example_in_the_readme(readme: str) -> None:
    examples = " ".join(re.findall(r"`([^`]+)`", readme))

    assert [] == [name for name in OPERATORS if not re.search(rf"\b{name}\b", examples)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]

    assert [] == [target for target in targets if target and not (document.parent / target).exists()]


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    contributing = (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|lark))`", text + contributing))

    assert len(named) > 20
    assert [] == sorted(name for name in named if not any((ROOT / top / name).exists() for top in ("eventsvc", ".")))


def test_no_file_and_no_function_is_longer_than_the_rules_for_contributors_say() -> None:
    text = " ".join((ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    (limits,) = re.findall(r"no function has more than (\d+)\. A file has at most (\d+) lines", text)
    paths = [path for path in sorted((ROOT / "eventsvc").rglob("*.py")) if "node_modules" not in path.parts]
    sources = {path: path.read_text(encoding="utf-8") for path in paths}
    functions = [
        (path.name, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert [] == [function for function in functions if function[2] > int(limits[0])]
    assert [] == [path.name for path, source in sources.items() if len(source.splitlines()) > int(limits[1])]


def test_functions_on_the_path_of_an_event_exist() -> None:
    """The table of docs/architecture.md names a file and its functions in each row."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| `([\w/]+)\.py` \| (`[^|]*`) \|", text, re.MULTILINE)
    named = [(path.replace("/", "."), name) for path, names in rows for name in re.findall(r"`([\w.]+)`", names)]

    assert len(named) > 30
    assert [] == [place for place in named if not _exists(*place)]


def _exists(module: str, name: str) -> bool:
    found: Any = importlib.import_module(f"eventsvc.{module}")
    for part in name.split("."):
        found = getattr(found, part, None)
    return callable(found)


def test_the_readme_maps_every_folder_and_every_file_at_the_top_of_the_package(readme: str) -> None:
    """Each has a row of its own, and each row names something that is there."""
    rows = re.findall(r"^\| `([^`]+)` \|", readme.partition("## Find your way")[2], re.MULTILINE)
    made = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.endswith(".egg-info")]
    paths = [path for path in [*folders, *(ROOT / "eventsvc").iterdir()] if path.name not in made | {"py.typed"}]
    names = [f"{path.name}/" if path.is_dir() else path.name for path in paths if path.name[0] not in "_."]

    assert sorted(names) == sorted(rows)
