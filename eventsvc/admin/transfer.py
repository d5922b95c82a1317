"""Import events from files and export events to files. An import can be killed and run again."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import zstandard

from eventsvc.admin.import_lines import Imported, ImportParser
from eventsvc.api.export import write_lines
from eventsvc.errors import Fault, InvalidBody, InvalidEvents, SetupError
from eventsvc.event import Event
from eventsvc.incoming.split import BOM, Item, split_lines
from eventsvc.incoming.unpack import Unpacked
from eventsvc.log.citus import LOCK
from eventsvc.log.connection import Connection, transaction, translate_errors
from eventsvc.log.months import ensure_months, list_months, month_of
from eventsvc.log.read.state import EVENT_COLUMNS
from eventsvc.log.write.copy_rows import COPY, CopySource, pack_row
from eventsvc.query.to_sql import to_sql

if TYPE_CHECKING:
    from datetime import date

    from eventsvc.query import ast

_BATCH = 2_000  # events in one transaction
_LONGEST_LINE = 1024 * 1024
_SHOWN = 20  # bad lines in the report
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# The first bytes of other formats, and what to do about such files.
_OTHER_FORMATS = (
    (b"\xfd7zXZ\x00", "an .xz file: unpack it first, with `xz -dc FILE | eventsvc admin import -`"),
    (b"BZh", "a .bz2 file: unpack it first, with `bzip2 -dc FILE | eventsvc admin import -`"),
    (b"PK\x03\x04", "a .zip file: unpack it first, with `unzip -p FILE | eventsvc admin import -`"),
    (b"\x04\x22\x4d\x18", "an .lz4 file: unpack it first, with `lz4 -dc FILE | eventsvc admin import -`"),
    (b"\xff\xfe", "text in UTF-16: `iconv -f UTF-16 -t UTF-8 FILE | eventsvc admin import -`"),
    (b"\xfe\xff", "text in UTF-16: `iconv -f UTF-16 -t UTF-8 FILE | eventsvc admin import -`"),
)
_ARRAY = "a JSON array, and an import takes one object a line: `jq -c '.[]' FILE | eventsvc admin import -`"

# The advisory lock lets only one import at a time store a batch: two imports of the same ids would both find that an
# event is missing. Then comes the table's lock, before the clock is read: see log/progress/horizon.py.
_BEGIN = f"""
SELECT pg_advisory_xact_lock(6876550);
{LOCK};
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
"""  # noqa: S608  (a constant)
# PERF: the array is a subquery, so that the planner does not know its length and never chooses to read whole tables.
_ERASED = "SELECT id::text FROM erased_id WHERE id = ANY((SELECT %s::uuid[])::uuid[])"
_BRING_BACK = "DELETE FROM erased_id WHERE id = ANY((SELECT %s::uuid[])::uuid[])"
_PRESENT = "SELECT id::text FROM event WHERE id = ANY((SELECT %s::uuid[])::uuid[])"
_EXPORT = f"""
DECLARE export NO SCROLL CURSOR FOR SELECT {EVENT_COLUMNS} FROM event WHERE {{}} ORDER BY seq
"""  # noqa: S608  (constants; what is put in comes from to_sql)

Advance = Callable[[int], None]


@dataclass(slots=True)
class Report:
    """The results of an import.

    Attributes:
        lines: the number of lines read, without blank lines.
        stored: the number of events that this run stored.
        present: the number of events that were stored before, by an earlier run or under the same id.
        erased: the number of events that were erased once, and stay erased.
        refused: the number of lines that break a rule.
        faults: the faults of the first refused lines.
    """

    lines: int = 0
    stored: int = 0
    present: int = 0
    erased: int = 0
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give the form for scripts."""
        faults = [{"line": one.line, "pointer": one.pointer, "detail": one.detail} for one in self.faults]
        return {
            "lines": self.lines,
            "stored": self.stored,
            "alreadyPresent": self.present,
            "erased": self.erased,
            "refused": self.refused,
            "errors": faults,
        }


def import_events(
    connection: Connection, packed: IO[bytes], source: str, advance: Advance, *, include_erased: bool = False
) -> Report:
    """Store the events of a stream of NDJSON, plain, gzip or zstd, in batches.

    Killed at any moment and run again, it stores what is missing, and nothing twice.

    Args:
        connection: a connection in autocommit mode.
        packed: the stream.
        source: a name that derived ids depend on. With another name, lines without ids become other events.
        advance: is called with the number of further lines done.
        include_erased: store events again that were erased; otherwise they are left out.

    Raises:
        LogError: PostgreSQL is away; run the import again.
        InvalidBody: the stream is not NDJSON, or not whole gzip or zstd.
    """
    report = Report()
    parser = ImportParser(source)
    with _unpack(packed) as unpacked:
        months = set(list_months(connection))
        items = split_lines(_NoArray(unpacked), _LONGEST_LINE)
        while batch := list(islice(items, _BATCH)):
            events = list(_parse(parser, batch, report))
            _make_months(connection, events, months)
            stored, erased = _store(connection, events, include_erased=include_erased)
            report.lines += len(batch)
            report.stored += stored
            report.erased += erased
            report.present += len(events) - stored - erased
            advance(len(batch))
    return report


@contextmanager
def _unpack(packed: IO[bytes]) -> Iterator[Unpacked]:
    stream = io.BufferedReader(packed, 1024 * 1024)  # type: ignore[type-var]
    begin = stream.peek(8)[:8]
    for magic, what in _OTHER_FORMATS:
        if begin.startswith(magic):
            raise InvalidBody(f"this is {what}")
    encoding = "gzip" if begin.startswith(_GZIP) else "zstd" if begin.startswith(_ZSTD) else ""
    try:
        yield Unpacked(stream, encoding, sys.maxsize)
    finally:
        stream.detach()  # otherwise the reader would close the caller's stream


class _NoArray:
    """A reader that refuses a JSON array at its beginning."""

    def __init__(self, unpacked: Unpacked) -> None:
        self._unpacked, self._begun = unpacked, False

    def read(self, size: int) -> bytes:
        block = self._unpacked.read(size)
        if not self._begun and block.removeprefix(BOM).lstrip().startswith(b"["):
            raise InvalidBody(f"this is {_ARRAY}")
        self._begun = True
        return block


def _parse(parser: ImportParser, batch: list[Item], report: Report) -> Iterator[Imported]:
    for number, raw in batch:
        try:
            if isinstance(raw, InvalidEvents):
                raise raw
            yield parser.parse(number, raw)
        except InvalidEvents as exc:
            _refuse(report, number, exc.faults[0])
        except InvalidBody as exc:
            _refuse(report, number, Fault("", str(exc)))


def _refuse(report: Report, number: int, fault: Fault) -> None:
    report.refused += 1
    if len(report.faults) < _SHOWN:
        report.faults.append(Fault(fault.pointer, fault.detail, number))


def _make_months(connection: Connection, events: list[Imported], known: set[date]) -> None:
    needed = {month_of(one.created_at) for one in events if one.created_at is not None}
    for month in sorted(needed - known):
        ensure_months(connection, month, month)
        known.add(month)


def _store(connection: Connection, events: list[Imported], *, include_erased: bool) -> tuple[int, int]:
    """Store missing events; return how many were stored, and how many were left out because they had been erased."""
    by_id = {one.id: one for one in reversed(events)}  # the first of several wins
    with translate_errors(), transaction(connection) as cursor:
        cursor.execute(_BEGIN)
        ((now,),) = cursor.fetchall()
        # The order matters: an event that is erased between the two statements counts as present, and an event that
        # was erased before is found by the second statement.
        _take_out(cursor, _PRESENT, by_id)
        if include_erased:
            cursor.execute(_BRING_BACK, ([name.hex() for name in by_id],))
        erased = 0 if include_erased else _take_out(cursor, _ERASED, by_id)
        times = {one.id: now if one.created_at is None else one.created_at for one in by_id.values()}
        rows = CopySource(pack_row(one.id, times[one.id], one.new) for one in reversed(by_id.values()))
        cursor.copy_expert(COPY, rows)
        if rows.failure is not None:
            raise rows.failure
    return len(by_id), erased


def _take_out(cursor: Any, statement: str, by_id: dict[bytes, Imported]) -> int:
    """Remove the events whose ids a statement returns; return how many."""
    cursor.execute(statement, ([name.hex() for name in by_id],))
    found = [bytes.fromhex(text.replace("-", "")) for (text,) in cursor.fetchall()]
    for name in found:
        del by_id[name]
    return len(found)


def export_events(connection: Connection, node: ast.Node | None, out: IO[bytes], advance: Advance) -> None:
    """Write the matching events of one snapshot, oldest first, one JSON object a line."""
    condition, parameters = to_sql(node) if node is not None else ("%s", [True])
    with translate_errors(), transaction(connection) as cursor:
        cursor.execute(_EXPORT.format(condition), parameters)
        while rows := _fetch(cursor):
            out.write(write_lines(Event(*row) for row in rows))
            advance(len(rows))


def _fetch(cursor: Any) -> list[tuple[Any, ...]]:
    cursor.execute(f"FETCH {_BATCH} FROM export")
    return list(cursor.fetchall())


@contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name only when it is complete; .gz and .zst are compressed.

    Raises:
        SetupError: the file cannot be created.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        opened = unfinished.open("wb")
    except OSError as exc:
        raise SetupError(f"cannot write {path}: {exc.strerror}") from exc
    try:
        with opened as file, _pack(file, path.suffix) as packed:
            yield packed
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _pack(file: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    if suffix == ".gz":
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
            yield packed  # type: ignore[misc]
    elif suffix == ".zst":
        with zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as writer:
            yield writer
    else:
        yield file
