"""Fetching Elasticsearch without Maven, from a real HTTP server that breaks off, lies, or has nothing."""

from __future__ import annotations

import hashlib
import io
import random
import re
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventsvc.dev import distribution, download
from eventsvc.dev.server import free_port
from eventsvc.errors import SetupError

CONTENT = random.Random(1).randbytes(3_000_000)
RIGHT = hashlib.sha256(CONTENT).hexdigest()


class Repository(ThreadingHTTPServer):
    """Serves files, with ranges; what was asked for is remembered.

    Attributes:
        files: path and content.
        cuts: after so many bytes the next answers break off; then no more.
        knows_ranges: whether it answers a part of a file.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.knows_ranges = True
        self.asked: list[tuple[str, str]] = []

    def add(self, path: str, content: bytes) -> str:
        self.files[path] = content
        return self.url + path


class _Answer(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.knows_ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts and len(content) > 1000 else len(content)
        self.wfile.write(content[begin : begin + cut])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _ranges(repository: Repository, path: str = "/file.zip") -> list[str]:
    return [wanted for asked, wanted in repository.asked if asked == path]


def test_a_connection_that_breaks_off_is_taken_up_again_where_it_stopped(
    repository: Repository, tmp_path: Path
) -> None:
    """Only the bytes that are missing are asked for, however often it breaks."""
    url = repository.add("/file.zip", CONTENT)
    repository.cuts = [1_000_000, 0, 500_000, 0, 0]
    told: list[int] = []
    download.fetch(url, tmp_path / "part", told.append, sha256=RIGHT)
    assert (tmp_path / "part").read_bytes() == CONTENT
    starts = ["", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-", "bytes=1500000-", "bytes=1500000-"]
    assert _ranges(repository) == starts
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_the_beginning_that_an_earlier_call_has_fetched_is_kept(repository: Repository, tmp_path: Path) -> None:
    url = repository.add("/file.zip", CONTENT)
    repository.cuts = [2_000_000, 0, 0, 0, 0]
    with pytest.raises(SetupError, match=r"file\.zip cannot be fetched: the connection broke off"):
        download.fetch(url, tmp_path / "part", lambda _: None, sha256=RIGHT)
    download.fetch(url, tmp_path / "part", lambda _: None, sha256=RIGHT)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert _ranges(repository)[-1] == "bytes=2000000-"
    download.fetch(url, tmp_path / "part", lambda _: None, sha256=RIGHT)  # all is there: the server has no more
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_all_again(repository: Repository, tmp_path: Path) -> None:
    url = repository.add("/file.zip", CONTENT)
    repository.knows_ranges = False
    repository.cuts = [1_000_000]
    download.fetch(url, tmp_path / "part", lambda _: None, sha256=RIGHT)
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [1000, len(CONTENT) + 7])
def test_a_beginning_of_something_else_is_thrown_away(repository: Repository, tmp_path: Path, length: int) -> None:
    url = repository.add("/file.zip", CONTENT)
    (tmp_path / "part").write_bytes(b"x" * length)
    download.fetch(url, tmp_path / "part", lambda _: None, sha256=RIGHT)
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_what_has_a_wrong_checksum_is_deleted(repository: Repository, tmp_path: Path) -> None:
    url = repository.add("/file.zip", CONTENT)
    with pytest.raises(SetupError, match="deleted again: its SHA-256 checksum is wrong"):
        download.fetch(url, tmp_path / "part", lambda _: None, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    assert len(_ranges(repository)) == 1


def test_a_file_that_is_not_there_is_not_waited_for(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the server answers 404"):
        download.fetch(f"{repository.url}/gone.zip", tmp_path / "part", lambda _: None, sha256=RIGHT)
    assert [path for path, _ in repository.asked].count("/gone.zip") == 1
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_is_said_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with pytest.raises(SetupError, match=r"cannot be fetched: .*Connection refused"):
        download.fetch(f"http://127.0.0.1:{free_port()}/file.zip", tmp_path / "part", lambda _: None, sha256=RIGHT)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = _distribution()
    monkeypatch.setitem(distribution._CHECKSUMS, distribution.VERSION, hashlib.sha256(content).hexdigest())
    return content


def _distribution() -> bytes:
    program = zipfile.ZipInfo(f"elasticsearch-{distribution.VERSION}/bin/elasticsearch")
    program.external_attr = 0o750 << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(program, "#!/bin/sh\n")
        archive.writestr(f"elasticsearch-{distribution.VERSION}/lib/jar", CONTENT)
    return made.getvalue()


@pytest.mark.parametrize("maven", ["", "#!/bin/sh\necho no route to host >&2\nexit 1\n"])
def test_without_maven_or_when_it_fails_the_same_archive_comes_from_the_repository(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    archive: bytes,
    *,
    maven: str,
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    if maven:
        (tools / "mvn").write_text(maven)
        (tools / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = f"/maven/org/elasticsearch/distribution/integ-test-zip/elasticsearch/{distribution.VERSION}"
    repository.add(f"{folder}/elasticsearch-{distribution.VERSION}.zip", archive)
    repository.cuts = [1_000_000]
    said: list[str] = []
    unpacked = distribution.fetch_distribution(said.append, f"{repository.url}/maven/")
    assert stat.S_IMODE((unpacked / "bin" / "elasticsearch").stat().st_mode) == 0o754
    assert sorted(path.name for path in unpacked.parent.iterdir()) == [unpacked.name, "lock"]
    assert any("no route to host\ntrying without Maven" in line for line in said) == bool(maven)
    assert "\r" not in capsys.readouterr().err


def test_what_broke_off_stays_for_the_next_start_and_is_never_unpacked(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = f"/org/elasticsearch/distribution/integ-test-zip/elasticsearch/{distribution.VERSION}"
    repository.add(f"{folder}/elasticsearch-{distribution.VERSION}.zip", archive)
    repository.cuts = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(SetupError, match="the connection broke off"):
        distribution.fetch_distribution(lambda _: None, repository.url)
    cache = tmp_path / "cache" / "eventsvc"
    part = f"elasticsearch-{distribution.VERSION}.zip.part"
    assert sorted(path.name for path in cache.iterdir()) == [part, "lock"]
    assert (cache / part).stat().st_size == 1_000_000
    assert distribution.find_distribution() is None
    (cache / "fetching-1" / "elasticsearch").mkdir(parents=True)  # what a killed process leaves behind
    distribution.fetch_distribution(lambda _: None, repository.url)
    assert sorted(path.name for path in cache.iterdir()) == [f"elasticsearch-{distribution.VERSION}", "lock"]
