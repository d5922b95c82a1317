"""admin import and export: what goes out comes in again, once, however often it is tried."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from psycopg2.extensions import make_dsn

from eventsvc.log.connection import Connection

GOOD = {"email": "a@example.com", "environment": "test", "component": "files", "message": "m", "data": {"n": 1}}


def run(
    database: str, *arguments: str, given: bytes | None = None, code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run ``eventsvc admin``; no error may be shown as a traceback."""
    environment = os.environ | {"EVENTSVC_DATABASE_URL": database}
    command = [sys.executable, "-m", "eventsvc", "admin", *arguments]
    done = subprocess.run(command, env=environment, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def lines(count: int, **changes: Any) -> bytes:
    return b"".join(json.dumps(GOOD | {"message": f"m {n}"} | changes).encode() + b"\n" for n in range(count))


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def report(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["lines"] == found["stored"] + found["alreadyPresent"] + found["refused"] + found["erased"]
    return found


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_is_exported_can_be_imported_again(
    database: str, connection: Connection, tmp_path: Path, suffix: str
) -> None:
    run(
        database,
        "import",
        "-",
        given=lines(10, data={"x": [1e300, "é", None]}) + lines(5, createdAt="2018-01-31T23:59:59.999Z"),
    )
    file = tmp_path / f"events.ndjson{suffix}"
    run(database, "export", "--output", str(file))
    exported = run(database, "export").stdout
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.decompress,
        ".zst": zstandard.ZstdDecompressor().decompressobj().decompress,
    }
    assert unpack[suffix](file.read_bytes()) == exported
    assert rows(connection, "SELECT count(*) FROM event_2018_01") == [(5,)]
    rows(connection, "TRUNCATE event; SELECT 1")
    assert report(run(database, "import", str(file)))["stored"] == 15
    assert run(database, "export").stdout == exported
    assert report(run(database, "import", str(file)))["alreadyPresent"] == 15


def test_a_query_chooses_what_is_exported(database: str) -> None:
    run(database, "import", "-", given=lines(20, message="100% \\ done") + lines(3))
    assert len(run(database, "export", "--q", "message ct '100%'").stdout.splitlines()) == 20
    assert len(run(database, "export", "--q", "data.n eq 1 AND message eq 'm 1'").stdout.splitlines()) == 1
    assert b"caret" not in run(database, "export", "--q", "message is 1", code=1).stdout


def test_an_import_that_is_killed_goes_on_where_it_was(database: str, connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "many.ndjson"
    file.write_bytes(lines(20_000))
    environment = os.environ | {"EVENTSVC_DATABASE_URL": database}
    process = subprocess.Popen(
        [sys.executable, "-m", "eventsvc", "admin", "import", str(file)], env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while rows(connection, "SELECT count(*) > 4000 FROM event") == [(False,)]:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = report(run(database, "import", str(file)))
    assert done["alreadyPresent"] > 4000
    assert rows(connection, "SELECT count(*), count(DISTINCT message) FROM event") == [(20_000, 20_000)]
    assert report(run(database, "import", str(file)))["stored"] == 0


def test_bad_lines_are_reported_and_the_others_stored(database: str, connection: Connection) -> None:
    own = str(uuid.uuid4())
    bad = [
        b"{}",
        b"not json",
        lines(1, id="x").strip(),
        lines(1, createdAt="yesterday").strip(),
        lines(1, createdAt="2999-01-01").strip(),
        lines(1, createdAt=5).strip(),
        lines(1)[:-2] + b', "message": "twice"}',
        lines(1, extra=1).strip(),
    ]
    given = lines(1, id=own) + b"\n".join(bad) + b"\n\n" + lines(1, id=own)
    done = report(run(database, "import", "-", given=given, code=3))
    assert (done["lines"], done["stored"], done["alreadyPresent"], done["refused"]) == (10, 1, 1, 8)
    found = [(error["line"], error["pointer"]) for error in done["errors"]]
    assert found == [
        (2, "/email"),
        (3, ""),
        (4, "/id"),
        (5, "/createdAt"),
        (6, "/createdAt"),
        (7, "/createdAt"),
        (8, "/message"),
        (9, "/extra"),
    ]
    assert rows(connection, "SELECT id::text FROM event") == [(own,)]


def test_equal_lines_are_different_events(database: str, tmp_path: Path) -> None:
    file = tmp_path / "one.ndjson"
    file.write_bytes(lines(1) * 3)
    assert report(run(database, "import", str(file)))["stored"] == 3


def test_a_file_that_was_renamed_packed_or_has_grown_is_not_stored_twice(database: str, tmp_path: Path) -> None:
    file, other = tmp_path / "one.ndjson", tmp_path / "other.ndjson.gz"
    file.write_bytes(lines(3))
    assert report(run(database, "import", str(file)))["stored"] == 3
    other.write_bytes(gzip.compress(lines(5)))
    done = report(run(database, "import", str(other)))
    assert (done["stored"], done["alreadyPresent"]) == (2, 3)
    assert report(run(database, "import", "--source", "again", str(file)))["stored"] == 3
    file.write_bytes(lines(1, component="first") + lines(3))
    assert report(run(database, "import", str(file)))["stored"] == 4


def test_when_an_event_happened_goes_out_and_comes_in_to_its_last_digit(database: str, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    times = {"createdAt": "2018-01-31T12:00:00.5Z", "occurredAt": "2018-01-31T11:00:00.000000001Z"}
    file.write_bytes(lines(1, **times) + lines(1, createdAt=times["createdAt"]) + lines(1, occurredAt="2222-01-01"))
    done = report(run(database, "import", str(file), code=3))
    assert (done["stored"], [fault["pointer"] for fault in done["errors"]]) == (2, ["/occurredAt"])
    exported = run(database, "export").stdout
    first, second = map(json.loads, exported.splitlines())
    assert first["occurredAt"] == times["occurredAt"]
    assert second["occurredAt"] == second["createdAt"] == "2018-01-31T12:00:00.500Z"
    file.write_bytes(exported if isinstance(exported, bytes) else exported.encode())
    assert report(run(database, "import", str(file)))["alreadyPresent"] == 2


@pytest.mark.parametrize("own_time", [{}, {"createdAt": "2018-01-31T12:00:00Z"}])
def test_two_imports_of_the_same_ids_at_once_store_each_event_once(
    database: str, connection: Connection, tmp_path: Path, own_time: dict[str, str]
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"".join(lines(1, id=str(uuid.uuid4()), **own_time) for _ in range(6_000)))
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda source: run(database, "import", "--source", source, str(file)), ("a", "b")))
    assert sum(report(done)["stored"] for done in both) == 6_000
    assert rows(connection, "SELECT count(*), count(DISTINCT id) FROM event") == [(6_000, 6_000)]


def test_an_event_of_the_beginning_of_1970_keeps_its_time(database: str) -> None:
    run(database, "import", "-", given=lines(1, createdAt="1970-01-01T00:00:00Z"))
    assert json.loads(run(database, "export").stdout)["createdAt"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"[" + lines(1).strip() + b"]", "a JSON array, and an import takes one object a line: `jq -c"),
        (gzip.compress(b"\xef\xbb\xbf\n [\n" + lines(1) + b"]"), "a JSON array"),
        (lzma.compress(lines(1)), "an .xz file: unpack it first, with `xz -dc"),
        (bz2.compress(lines(1)), "a .bz2 file"),
        (lines(1).decode().encode("utf-16"), "text in UTF-16"),
    ],
)
def test_a_file_of_another_kind_is_named(database: str, connection: Connection, given: bytes, said: str) -> None:
    assert said in run(database, "import", "-", given=given, code=1).stderr.decode()
    assert rows(connection, "SELECT count(*) FROM event") == [(0,)]


def test_errors_of_the_machine_and_of_queries_are_one_message(database: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "none" / "out.ndjson")
    said = run(database, "export", "--output", missing, code=1).stderr.decode()
    assert said == f"eventsvc: cannot write {missing}: No such file or directory\n"
    said = run(database, "export", "--q", "component = 'x'", code=1).stderr.decode()
    assert "  component = 'x'\n            ^" in said
    assert "write eq" in said
    assert "Expected one of" not in said
    said = run(database, "prune", "--older-than", "30", code=1).stderr.decode()
    assert "'30' is neither an age such as 90d" in said
    full = run(database, "import", "/", code=1).stderr.decode()
    assert "Is a directory" in full


@pytest.mark.parametrize("command", [("migrate",), ("trigrams", "--on"), ("export",)])
def test_errors_of_postgresql_are_one_message(
    empty_database: str, connection: Connection, command: tuple[str, ...]
) -> None:
    """A role that may log in, and nothing else."""
    role, password = f"eventsvc_test_{uuid.uuid4().hex[:8]}", "secret"
    rows(connection, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'; SELECT 1")
    try:
        dsn = make_dsn(empty_database, user=role, password=password)
        said = run(dsn, *command, code=1).stderr.decode()
        assert said.startswith("eventsvc: ")
        assert "Traceback" not in said
        assert len(said.splitlines()) == 1
    finally:
        rows(connection, f"DROP ROLE {role}; SELECT 1")


def test_a_file_that_ends_too_soon_is_an_error(database: str, connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "cut.ndjson.gz"
    file.write_bytes(gzip.compress(lines(10))[:-9])
    assert b"not whole gzip" in run(database, "import", str(file), code=1).stderr
    assert b"No such file" in run(database, "import", str(tmp_path / "none"), code=1).stderr


def test_an_export_that_fails_leaves_no_file(database: str, tmp_path: Path) -> None:
    file = tmp_path / "out.ndjson"
    run(database, "export", "--q", "nonsense", "--output", str(file), code=1)
    assert list(tmp_path.iterdir()) == []


def test_an_old_export_brings_erased_events_back_only_when_told(
    database: str, connection: Connection, tmp_path: Path
) -> None:
    run(database, "import", "-", given=lines(5))
    file = tmp_path / "old.ndjson"
    run(database, "export", "-o", str(file))
    run(database, "erase", "--q", "message in ('m 1', 'm 3')", "--reason", "r", "--yes")

    again = report(run(database, "import", str(file)))
    assert (again["stored"], again["alreadyPresent"], again["erased"]) == (0, 3, 2)
    assert rows(connection, "SELECT count(*) FROM event") == [(3,)]

    back = report(run(database, "import", str(file), "--include-erased"))
    assert (back["stored"], back["alreadyPresent"], back["erased"]) == (2, 3, 0)
    assert rows(connection, "SELECT count(*) FROM event") == [(5,)]
    assert rows(connection, "SELECT count(*) FROM erased_id") == [(0,)]
