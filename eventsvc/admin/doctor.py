"""Check everything that can go wrong, and report what was found and what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from eventsvc.admin import index_checks
from eventsvc.admin.stores import Stores, open_stores
from eventsvc.errors import EventsvcError, IndexUnavailable
from eventsvc.log import citus, months
from eventsvc.log.connection import fetch
from eventsvc.log.progress import rebuilds, refusals, watermark
from eventsvc.log.progress.horizon import WRITERS, read_last_seq
from eventsvc.settings import Settings

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        advice: what to do; "" when all is well.
    """

    level: Level
    what: str
    found: str
    advice: str = ""


def examine(settings: Settings, *, fix: bool = False) -> list[Finding]:
    """Check everything. A server that is away is a finding, not an error."""
    findings = [_settings(settings)]
    try:
        with open_stores(settings) as stores:
            for check in _LOG_CHECKS:
                findings += check(stores, fix)
            findings += _examine_index(stores, fix=fix)
    except EventsvcError as exc:
        findings.append(Finding("error", "PostgreSQL", str(exc), "see EVENTSVC_DATABASE_URL, and whether it runs"))
    return findings


def print_findings(findings: list[Finding]) -> None:
    """Print a line for each finding, with its advice below."""
    console = Console(soft_wrap=True, highlight=False)
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        line = Text.assemble((f"{finding.level:<8}", colours[finding.level]), f"{finding.what}: {finding.found}")
        console.print(line)
        if finding.advice:
            console.print(Text(f"        → {finding.advice}"))


def _settings(settings: Settings) -> Finding:
    shown = []
    for name in type(settings).model_fields:
        value, usual = getattr(settings, name), type(settings).model_fields[name].default
        if value == usual:
            continue
        secret = isinstance(value, SecretStr)
        shown.append(f"{name}={'***' if secret else _without_password(str(value))}")
    return Finding("ok", "settings", ", ".join(shown) or "all as by default")


def _without_password(text: str) -> str:
    """Hide the user and the password of a URL."""
    return re.sub(r"(?<=://)[^/@,]*@", "***@", text)


def _versions(stores: Stores, _fix: bool) -> Iterator[Finding]:  # noqa: FBT001
    version = stores.connection.info.parameter_status("server_version")
    yield Finding("ok", "PostgreSQL", f"version {version}, schema up to date, sequence draws one by one")


def _workers(stores: Stores, _fix: bool) -> Iterator[Finding]:  # noqa: FBT001
    workers = citus.list_workers(stores.connection)
    for worker in workers:
        if worker.forgotten is None:
            advice = "start it: its events can be neither read nor written, and the index waits"
            yield Finding("error", "workers", f"{worker.name} does not answer", advice)
        elif worker.forgotten:
            advice = "the index waits for them: SELECT recover_prepared_transactions() on the coordinator"
            yield Finding("warning", "workers", f"{worker.forgotten} transactions wait on {worker.name}", advice)
    if workers and not any(worker.forgotten != 0 for worker in workers):
        yield Finding("ok", "workers", f"{len(workers)} answer, and none has still to commit anything")


def _clock(stores: Stores, _fix: bool) -> Iterator[Finding]:  # noqa: FBT001
    before = time.time()
    ((theirs,),) = fetch(stores.connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
    skew = theirs - (before + time.time()) / 2
    level: Level = "ok" if abs(skew) < 1 else "warning" if abs(skew) < 60 else "error"  # noqa: PLR2004
    advice = "" if level == "ok" else "createdAt is PostgreSQL's clock: keep both machines in time with NTP"
    yield Finding(level, "clock", f"PostgreSQL's is {skew:+.2f} s off this machine's", advice)


def _partitions(stores: Stores, fix: bool) -> Iterator[Finding]:  # noqa: FBT001
    if fix:
        months.ensure_months_ahead(stores.connection)
        months.empty_default(stores.connection)
    count = months.count_default(stores.connection)
    if count:
        advice = "a month was not made in time: run with --fix to move them into months of their own"
        yield Finding("error", "default partition", f"{count:,} events", advice)
    else:
        yield Finding("ok", "default partition", "empty")
    present = months.list_months(stores.connection)
    ((today,),) = fetch(stores.connection, "SELECT (now() AT TIME ZONE 'UTC')::date")
    if not present or present[-1] <= today:
        yield Finding("error", "months", "none is made ahead", "run `eventsvc index`, or this with --fix")
    else:
        yield Finding("ok", "months", f"{len(present)}, the last one {present[-1]:%Y-%m}")


def _writers(stores: Stores, _fix: bool) -> Iterator[Finding]:  # noqa: FBT001
    rows = fetch(
        stores.connection,
        "SELECT pid, round(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity"  # noqa: S608
        f" WHERE xact_start < clock_timestamp() - interval '30 seconds' AND pid IN (SELECT pid {WRITERS})",
    )
    for pid, seconds in rows:
        advice = f"the index cannot pass it; end it with SELECT pg_terminate_backend({pid}) if it is forgotten"
        yield Finding("warning", "open transaction", f"process {pid} has been writing for {seconds:.0f} s", advice)
    if not rows:
        yield Finding("ok", "open transactions", "none holds the horizon back")


_LOG_CHECKS: tuple[Callable[[Stores, bool], Iterator[Finding]], ...] = (
    _versions,
    _workers,
    _clock,
    _partitions,
    _writers,
)


def _examine_index(stores: Stores, *, fix: bool) -> Iterator[Finding]:
    if stores.elasticsearch is None:
        yield Finding("ok", "Elasticsearch", "none: searches are answered by PostgreSQL")
        return
    yield from _lag(stores)
    yield from _failures(stores)
    try:
        for level, what, found, advice in index_checks.examine(stores, fix=fix):
            yield Finding(level, what, found, advice)
    except IndexUnavailable as exc:
        advice = "searches are answered by PostgreSQL meanwhile; see whether it runs"
        yield Finding("error", "Elasticsearch", str(exc), advice)


def _lag(stores: Stores) -> Iterator[Finding]:
    mark = watermark.read(stores.connection)
    drawn = read_last_seq(stores.connection)
    leader = watermark.find_leader(stores.connection)
    behind = drawn - mark.seq
    who = f"process {leader} of PostgreSQL leads" if leader else "nobody leads"
    found = f"{behind:,} seqs behind, watermark {mark.seq:,}, {who}"
    if leader is None:
        yield Finding("error" if behind else "warning", "indexer", found, "start `eventsvc index`")
    elif behind > 100_000:  # noqa: PLR2004
        yield Finding("warning", "indexer", found, "searches read what is behind from PostgreSQL; see its log")
    else:
        yield Finding("ok", "indexer", found)


def _failures(stores: Stores) -> Iterator[Finding]:
    if reasons := refusals.list_reasons(stores.connection):
        count, reason = sum(count for _, count in reasons), reasons[0][0]
        advice = "searches find them in PostgreSQL; run `eventsvc admin retry-failures` once the cause is gone"
        yield Finding("warning", "refused events", f"{count:,}, most often: {reason}", advice)
    else:
        yield Finding("ok", "refused events", "none")
    if count := len(rebuilds.list_rebuilds(stores.connection)):
        yield Finding("warning", "reindex", f"{count} months are not finished", "run `eventsvc admin reindex` again")
