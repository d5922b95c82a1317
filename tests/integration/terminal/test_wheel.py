"""What the package is without its extras: the commands for people and the client."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_SOURCES = ("eventsvc", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, cwd=Path(words[0]).parent)


def _installed(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, and install it alone into a new environment; gives its programs."""
    (folder / "src").mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "src" / name, ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    programs = folder / "environment" / "bin"
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    pip = (programs / "python", "-m", "pip", "-q")
    built = _run(*pip, "wheel", "--no-deps", "-w", folder, folder / "src")
    assert built.returncode == 0, built.stderr
    installed = _run(*pip, "install", *folder.glob("*.whl"))
    assert installed.returncode == 0, installed.stderr
    return programs


@pytest.mark.slow
@pytest.mark.timeout(900)  # pip may have to wait for what it fetches
def test_the_package_alone_has_the_commands_for_people(tmp_path: Path, service: Any) -> None:
    programs = _installed(tmp_path)
    eventsvc = programs / "eventsvc"
    assert _run(programs / "python", "-c", "import falcon").returncode == 1
    assert "Find events, newest first." in _run(eventsvc, "--help").stdout
    assert _run(programs / "python", "-c", "import eventsvc.client").stderr == ""

    words = ("--url", service.url, "--component", "wheel")
    assert _run(eventsvc, "log", "sent by the package alone", *words).returncode == 0
    found = _run(eventsvc, "search", "component eq 'wheel'", "--url", service.url)
    assert (found.returncode, found.stderr) == (0, "")
    assert "sent by the package alone" in found.stdout

    for command in (("serve",), ("admin", "doctor")):
        refused = _run(eventsvc, *command)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "pip install 'eventsvc[server]'" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
