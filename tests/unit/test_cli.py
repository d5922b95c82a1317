"""The command line as people and scripts meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from eventsvc import cli


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eventsvc", *arguments]
    settings = {"NO_COLOR": "1", "COLUMNS": "200"} | environment
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False)


def _commands(group: Any = None, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """List all commands below a group with their words. typer brings a click of its own, or takes that of others."""
    group = group or typer.main.get_command(cli.app)
    if not hasattr(group, "commands"):
        return [(words, group)]
    return [found for name, command in group.commands.items() for found in _commands(command, (*words, name))]


@pytest.mark.parametrize("words", [("--help",), ("search", "--help"), ("admin", "--help")])
def test_help_is_there_without_what_only_some_commands_need(words: tuple[str, ...]) -> None:
    heavy = {"falcon", "psycopg2", "elasticsearch", "lark", "rich", "gunicorn", "structlog", "orjson", "urllib3"}
    if words == ("--help",):
        heavy |= {"pydantic", "importlib.metadata", "hashlib", "eventsvc.admin.commands.erasure"}
    program = (
        "import atexit, sys; from eventsvc.cli import main;"
        f" atexit.register(lambda: print('loaded:', *sorted({heavy} & set(sys.modules)))); main()"
    )
    shown = subprocess.check_output([sys.executable, "-c", program, *words], text=True)
    assert shown.startswith("Usage: eventsvc")
    assert shown.splitlines()[-1] == "loaded:"


def test_the_version_goes_to_stdout() -> None:
    result = _run("--version")
    assert (result.returncode, result.stdout) == (0, f"eventsvc {metadata.version('eventsvc')}\n")


def test_an_expected_error_is_one_message_on_stderr_without_a_traceback() -> None:
    result = _run("serve", EVENTSVC_PROT="1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("eventsvc: wrong settings:")
    assert "did you mean EVENTSVC_PORT?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_that_is_away_is_said_with_its_cause() -> None:
    result = _run("admin", "migrate", "--database-url", "postgresql://127.0.0.1:9/x")
    assert result.returncode == 1
    assert "PostgreSQL cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_while_it_is_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt", encoding="ascii")
    result = _run("--help", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_a_wrong_option_is_a_usage_error() -> None:
    assert _run("serve", "--prot", "1").returncode == 2


@pytest.mark.parametrize("words", [words for words, _ in _commands()], ids=" ".join)
def test_every_command_says_what_it_does_and_gives_an_example(words: tuple[str, ...]) -> None:
    command = dict(_commands())[words]
    assert command.help
    assert "eventsvc" in f"{command.epilog} {command.help}"
