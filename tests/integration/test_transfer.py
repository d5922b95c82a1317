"""admin import and export: what goes out comes in again, once, however often it is tried."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import zstandard

from eventsvc.log.connection import Connection

GOOD = {"email": "a@example.com", "environment": "test", "component": "files", "message": "m", "data": {"n": 1}}


def run(
    database: str, *arguments: str, given: bytes | None = None, code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"EVENTSVC_DATABASE_URL": database}
    command = [sys.executable, "-m", "eventsvc", "admin", *arguments]
    done = subprocess.run(command, env=environment, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


def lines(count: int, **changes: Any) -> bytes:
    return b"".join(json.dumps(GOOD | {"message": f"m {n}"} | changes).encode() + b"\n" for n in range(count))


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def report(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["lines"] == found["stored"] + found["alreadyPresent"] + found["refused"]
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
    unpack = {"": bytes, ".gz": gzip.decompress, ".zst": zstandard.ZstdDecompressor().decompressobj().decompress}[
        suffix
    ]
    assert unpack(file.read_bytes()) == exported
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


def test_equal_lines_are_different_events_and_other_files_too(database: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.ndjson", tmp_path / "two.ndjson"
    for file in (one, two):
        file.write_bytes(lines(1) * 3)
        assert report(run(database, "import", str(file)))["stored"] == 3
    assert report(run(database, "import", "--source", "one.ndjson", str(two)))["stored"] == 0


def test_a_file_that_ends_too_soon_is_an_error(database: str, connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "cut.ndjson.gz"
    file.write_bytes(gzip.compress(lines(10))[:-9])
    assert b"not whole gzip" in run(database, "import", str(file), code=1).stderr
    assert b"No such file" in run(database, "import", str(tmp_path / "none"), code=1).stderr


def test_an_export_that_fails_leaves_no_file(database: str, tmp_path: Path) -> None:
    file = tmp_path / "out.ndjson"
    run(database, "export", "--q", "nonsense", "--output", str(file), code=1)
    assert list(tmp_path.iterdir()) == []
