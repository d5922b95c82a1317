"""``eventsvc admin reindex|backfill|verify|prune|partitions|doctor|retry-failures``: check and repair the stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsvc.admin.commands.arguments import DatabaseUrl, ElasticsearchUrl, Json

if TYPE_CHECKING:
    from eventsvc.admin.compare import Range
    from eventsvc.admin.stores import Stores
    from eventsvc.admin.verify import MonthReport
    from eventsvc.settings import Settings

Months = Annotated[list[str] | None, typer.Option("--month", metavar="YYYY-MM", help="Only this month; repeatable.")]

NOT_EQUAL = 3  # exit code: the index and the log differ


def register(admin: typer.Typer) -> None:
    """Add the commands."""
    admin.command(epilog="Example: eventsvc admin reindex --month 2026-11 --rate 5000")(reindex)
    admin.command(epilog="Example: eventsvc admin backfill --from 2026-11-01 --to 2026-11-15T12:00:00Z")(backfill)
    admin.command(epilog="Example: eventsvc admin verify --json || eventsvc admin verify --repair")(verify)
    admin.command(epilog="Example: eventsvc admin prune --older-than 90d --yes")(prune)
    admin.command(epilog="Example: eventsvc admin partitions --json")(partitions)
    admin.command(epilog="Example: eventsvc admin doctor --fix")(doctor)
    admin.command(name="retry-failures", epilog="Example: eventsvc admin retry-failures")(retry_failures)


def reindex(
    *,
    month: Months = None,
    rate: Annotated[float | None, typer.Option(min=1, help="Most events a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Build the index of each month again from PostgreSQL, while the service runs, and then replace the old index.

    Searches stay exact all the time. After a kill, the next run continues where this run stopped.
    """
    from eventsvc.admin import rebuild
    from eventsvc.admin.commands import arguments, output, progress
    from eventsvc.admin.stores import open_stores
    from eventsvc.log.months import count_events
    from eventsvc.log.progress import index_months

    with open_stores(_settings(database_url, elasticsearch_url)) as stores:
        known = index_months.list_indexes(stores.connection)
        months = arguments.chosen_months(month, known)
        counts = {one: count_events(stores.connection, one) for one in months}
        if dry_run:
            rows = [{"month": f"{one:%Y-%m}", "events": counts[one], "index": known[one].name} for one in months]
            output.print_rows(rows, ("month", "#events", "index"), as_json=as_json)
            return
        done = []
        with stores.exclusive():
            for one in months:
                with progress.show(f"reindex {one:%Y-%m}", counts[one]) as advance:
                    done.append(rebuild.rebuild(stores, one, rate=rate, advance=advance))
            rebuild.remove_old(stores, done)
        result = [{"month": f"{one.month:%Y-%m}", "index": one.name, "removed": one.old_name} for one in done]
    output.print_rows(result, ("month", "index", "removed"), as_json=as_json)


def backfill(
    *,
    from_: Annotated[str, typer.Option("--from", help="First seq, or a time (RFC 3339, or a date).")] = "1",
    to: Annotated[
        str, typer.Option("--to", help="Last seq, or a time; without this option, the end of the index.")
    ] = "",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Write the documents that the index lacks, or that differ from the log, for a range of events."""
    from eventsvc.admin.commands import arguments, output
    from eventsvc.admin.compare import Range
    from eventsvc.admin.stores import open_stores

    with open_stores(_settings(database_url, elasticsearch_url)) as stores, stores.exclusive():
        first, last = (
            arguments.bound(stores.connection, "--from", from_, at_end=False),
            arguments.bound(stores.connection, "--to", to, at_end=True),
        )
        reports = _compare_all(stores, None, Range(max(0, first - 1), last), quick=False)
        written = _repair_all(stores, [report for report in reports if not report.equal], ("missing", "different"))
    output.print_rows([{"documents": written}], ("#documents",), as_json=as_json)


def verify(
    *,
    month: Months = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Compare stored checksums only: fast, but misses documents that other programs have changed.",
        ),
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Make the index equal to the log.")] = False,
    erased: Annotated[
        bool, typer.Option("--erased", help="Check instead that neither store has anything of erased events.")
    ] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Check that the index holds exactly the events of the log, up to the watermark.

    Exit code 0: equal, or repaired; 3: not equal; 1: the check failed.
    """
    from contextlib import ExitStack

    from eventsvc.admin.commands.erasure import check_erased
    from eventsvc.admin.compare import Range
    from eventsvc.admin.stores import open_stores

    with open_stores(_settings(database_url, elasticsearch_url)) as stores, ExitStack() as stack:
        if erased:
            check_erased(stores, as_json=as_json)
            return
        if repair:
            stack.enter_context(stores.exclusive())
        reports = _compare_all(stores, month, Range(), quick=quick)
        if repair:
            _repair_all(stores, [report for report in reports if not report.equal])
    _print_reports(reports, as_json=as_json)
    if not repair and not all(report.equal for report in reports):
        raise typer.Exit(NOT_EQUAL)


def prune(
    *,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="An age such as 90d or 12w, or a date.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this option, only show what would go.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Remove old events: whole months with their indexes, and parts of a month in batches. Nothing brings them back."""
    from eventsvc.admin import prune as pruning
    from eventsvc.admin.commands import arguments, output, progress
    from eventsvc.admin.stores import open_stores

    with open_stores(_settings(database_url, elasticsearch_url)) as stores:
        plan = pruning.plan(stores, arguments.cutoff(older_than))
        total = sum(events for _, events in plan.months) + sum(events for _, events in plan.partial)
        if yes:
            with stores.exclusive(), progress.show("prune", total) as advance:
                pruning.prune(stores, plan, advance)
    rows: list[dict[str, Any]] = [
        {"month": f"{m:%Y-%m}", "events": count, "what": "whole month"} for m, count in plan.months
    ]
    what = f"up to {plan.cutoff:%Y-%m-%dT%H:%M:%SZ}, save what a hold keeps"
    rows += [{"month": f"{m:%Y-%m}", "events": count, "what": what} for m, count in plan.partial]
    rows += [{"month": "-", "events": 0, "what": f"unused index {name}"} for name in plan.unused]
    if as_json:
        output.print_json({"done": yes, "goes": rows})
    else:
        output.print_rows(rows, ("month", "#events", "what"), as_json=False)
        print(f"{total:,} events {'are gone' if yes else 'would go; add --yes to do it'}")


def partitions(
    *, as_json: Json = False, database_url: DatabaseUrl = None, elasticsearch_url: ElasticsearchUrl = None
) -> None:
    """Show the size of each month in PostgreSQL and in Elasticsearch."""
    from eventsvc.admin import prune as pruning
    from eventsvc.admin.commands import output
    from eventsvc.admin.stores import open_stores

    with open_stores(_settings(database_url, elasticsearch_url)) as stores:
        sizes = pruning.list_sizes(stores)
    rows: list[dict[str, Any]] = [
        {
            "month": f"{one.month:%Y-%m}",
            "events": one.events,
            "bytes": one.table_bytes,
            "index": one.index,
            "documents": one.documents,
            "index_bytes": one.index_bytes,
            "generation": one.generation,
            "shards": one.shards,
        }
        for one in sizes
    ]
    if not as_json:
        for row in rows:
            row |= {"bytes": output.size(row["bytes"]), "index_bytes": output.size(row["index_bytes"])}
    columns = ("month", "#events", "#bytes", "index", "#documents", "#index_bytes", "#generation", "#shards")
    output.print_rows(rows, columns, as_json=as_json)


def doctor(
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired without a loss.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    elasticsearch_url: ElasticsearchUrl = None,
) -> None:
    """Check everything that can go wrong, and say what to do. Exit code 1: there is an error."""
    from eventsvc.admin import doctor as doctor_module
    from eventsvc.admin.commands import output

    settings = _settings(database_url, elasticsearch_url)
    findings = doctor_module.examine(settings, fix=fix)
    if as_json:
        output.print_json([{"level": f.level, "what": f.what, "found": f.found, "advice": f.advice} for f in findings])
    else:
        doctor_module.print_findings(findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def retry_failures(
    *, as_json: Json = False, database_url: DatabaseUrl = None, elasticsearch_url: ElasticsearchUrl = None
) -> None:
    """Send the events that the index has refused once more. Exit code 3: the index refuses some again."""
    from eventsvc.admin.commands import output
    from eventsvc.admin.stores import open_stores
    from eventsvc.admin.verify import retry_refused

    with open_stores(_settings(database_url, elasticsearch_url)) as stores, stores.exclusive():
        taken, refused = retry_refused(stores)
    output.print_rows([{"taken": taken, "refused": refused}], ("#taken", "#refused"), as_json=as_json)
    if refused:
        raise typer.Exit(NOT_EQUAL)


def _settings(database_url: str | None, elasticsearch_url: str | None) -> Settings:
    from eventsvc.settings import find
    from eventsvc.telemetry import configure_logging

    settings = find(database_url=database_url, elasticsearch_url=elasticsearch_url)
    configure_logging(settings.log_format, settings.log_level)
    return settings


def _compare_all(stores: Stores, wanted: list[str] | None, seqs: Range, *, quick: bool) -> list[MonthReport]:
    from eventsvc.admin import verify as verify_module
    from eventsvc.admin.commands import arguments, progress
    from eventsvc.log.months import count_events

    months = arguments.chosen_months(wanted, verify_module.list_months(stores.connection))
    total = sum(count_events(stores.connection, month) for month in months)
    with progress.show("verify", total) as advance:
        return list(verify_module.verify(stores, months, wanted=seqs, quick=quick, advance=advance))


def _repair_all(
    stores: Stores, reports: Sequence[MonthReport], kinds: Sequence[Any] = ("missing", "extra", "different")
) -> int:
    from eventsvc.admin import verify as verify_module

    return sum(verify_module.repair(stores, report, kinds) for report in reports)


def _print_reports(reports: Sequence[MonthReport], *, as_json: bool) -> None:
    from eventsvc.admin.commands import output
    from eventsvc.admin.verify import to_json

    rows = [to_json(report) for report in reports]
    if as_json:
        output.print_json(rows)
        return
    output.print_rows(
        rows, ("month", "index", "#events", "#missing", "#extra", "#different", "#refused", "equal"), as_json=False
    )
    for row in rows:
        for difference in row["differences"][:20]:
            print(f"{row['month']}: {difference['kind']} seq {difference['seq']} (document {difference['document']})")
    print("equal" if all(report.equal for report in reports) else "not equal: run with --repair")
