"""The file by which commands find a running development server."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from eventsvc import connection_file
from eventsvc.errors import SetupError

VARIABLES = {"EVENTSVC_DATABASE_URL": "postgresql://a:b@c/d?x=1", "EVENTSVC_URL": "http://127.0.0.1:1"}
_HOLD = (
    "import sys, pathlib; from eventsvc.connection_file import publish\n"
    "with publish(pathlib.Path(sys.argv[1]), {'EVENTSVC_URL': 'http://x'}): print('up', flush=True); input()"
)


def test_only_the_owner_may_read_it_and_it_goes_in_the_end(tmp_path: Path) -> None:
    with connection_file.publish(tmp_path, VARIABLES):
        assert stat.S_IMODE((tmp_path / "connection").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_a_running_server_wrote_is_read_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with connection_file.publish(tmp_path, VARIABLES):
        assert connection_file.read(str(tmp_path)) == VARIABLES
        assert connection_file.read(str(tmp_path)) == VARIABLES
    assert capsys.readouterr().err == f"eventsvc: using the development server of {tmp_path}\n" * 2


def test_the_folder_of_the_environment_comes_before_that_of_this_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here/.eventsvc", "there"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with (
        connection_file.publish(tmp_path / "here" / ".eventsvc", {"EVENTSVC_URL": "here"}),
        connection_file.publish(tmp_path / "there", {"EVENTSVC_URL": "there"}),
    ):
        assert connection_file.read() == {"EVENTSVC_URL": "here"}
        monkeypatch.setenv("EVENTSVC_DATA", str(tmp_path / "there"))
        assert connection_file.read() == {"EVENTSVC_URL": "there"}


def test_what_a_killed_server_left_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ".eventsvc"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        assert connection_file.read() == {"EVENTSVC_URL": "http://x"}
        server.kill()
    capsys.readouterr()
    assert connection_file.read() == {}
    assert "the development server that wrote .eventsvc/connection has ended" in capsys.readouterr().err
    with pytest.raises(SetupError, match=r"has ended: start one with `eventsvc dev --data \.eventsvc`, or name a URL"):
        connection_file.read(".eventsvc")


def test_without_a_file_nothing_is_said_unless_the_folder_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert connection_file.read() == {}
    assert capsys.readouterr().err == ""
    with pytest.raises(SetupError, match="no development server runs with the data folder nowhere"):
        connection_file.read("nowhere")
