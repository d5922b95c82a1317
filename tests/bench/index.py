"""Measure the indexer beside bare elasticsearch-py, its lag, reindexing, and the index's size: ``make bench-index``.

Prints tables in Markdown for docs/reliability.md. All against servers of its own, or those of the options.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
from elasticsearch import Elasticsearch, helpers
from psycopg2.extensions import make_dsn

from eventsvc.admin import rebuild
from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.server import Server, wait_until_ready
from eventsvc.event import Event
from eventsvc.index import client as index_client
from eventsvc.index import indexes, mapping
from eventsvc.index.client import connect_async
from eventsvc.index.reader import IndexReader
from eventsvc.indexer.indexer import Indexer
from eventsvc.log import schema
from eventsvc.log.connection import Connection, Pool, connect
from eventsvc.log.months import month_of
from eventsvc.log.progress import watermark
from eventsvc.log.read.batches import read_batch
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PageRequest
from eventsvc.query.parse import parse
from eventsvc.search.both_stores import BothStores
from eventsvc.search.search import Search, compile_query
from eventsvc.settings import Settings, load
from eventsvc.telemetry import configure_logging
from tests.bench import generate
from tests.report import replace_block

_FILL = """
    INSERT INTO event (id, email, environment, component, message, data)
    SELECT gen_random_uuid(), 'user' || i %% 997 || '@chefhero.com',
        (array['production', 'staging', 'test'])[1 + i %% 3],
        (array['orders', 'payments', 'search', 'mail', 'auth'])[1 + i %% 5],
        'the buyer #' || i || ' has placed an order of ' || i %% 50 || ' boxes, session ' || md5(i::text),
        jsonb_build_object('order_id', i,
            'amount', (i %% 1000 / 10.0)::float8, 'tags', jsonb_build_array('a', 'b' || i %% 7))
    FROM generate_series(1, %s) AS i
"""


def main() -> None:
    """Measure and print."""
    options = _parse()
    configure_logging("console", "warning")
    with ExitStack() as stack:
        database, elasticsearch = serve_stores(stack, options.database_url, options.elasticsearch_url)
        settings = load({}, database_url=database, elasticsearch_url=elasticsearch, index_prefix="bench")
        rows = []
        for name, measure, argument in (
            ("indexer", _measure_indexer, options.events),
            ("lag", _measure_lag, options.seconds),
            ("reindex", _measure_reindex, options.reindex),
        ):
            if name in options.only:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                rows += measure(settings, argument)
        if rows:
            _show("bench", ["what", "measured", "to reach"], rows, options.report)
        if "size" in options.only:
            print("measuring the size …", file=sys.stderr, flush=True)
            _show("index-size", ["part of the index", "bytes an event"], _measure_size(settings), options.report)


def _show(block: str, head: list[str], rows: Sequence[tuple[str, ...]], report: Path | None) -> None:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    print("\n".join(lines))
    if report:
        replace_block(report, block, "\n".join(lines))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", default="", help="a server on which databases may be made")
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--events", type=int, default=200_000, help="for the indexer")
    parser.add_argument("--seconds", type=int, default=30, help="of load for the lag")
    parser.add_argument("--reindex", type=int, default=1_000_000, help="events to reindex and verify")
    parser.add_argument("--report", type=Path, help="the page whose tables are to be written")
    parser.add_argument("--only", nargs="+", default=["indexer", "lag", "reindex", "size"])
    return parser.parse_args()


def serve_stores(stack: ExitStack, database_url: str = "", elasticsearch_url: str = "") -> tuple[str, str]:
    """Start PostgreSQL and Elasticsearch, unless they have a URL; give both URLs."""
    database, elasticsearch = start_stores(stack, database_url, elasticsearch_url)
    return database.url, elasticsearch.url


def start_stores(stack: ExitStack, database_url: str = "", elasticsearch_url: str = "") -> list[Server]:
    """Start PostgreSQL and Elasticsearch, unless they have a URL."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    folder.chmod(0o711)

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    servers = []
    for find, url in ((find_postgres, database_url), (find_elasticsearch, elasticsearch_url)):
        server = find(folder, say=say, url=url, way="local", lasting=False)
        if server is None:
            sys.exit("no Elasticsearch could be found")
        stack.callback(server.stop)
        server.start()
        wait_until_ready(server, timeout=180)
        servers.append(server)
    return servers


@contextmanager
def _filled(settings: Settings, events: int) -> Iterator[tuple[Settings, Connection]]:
    """A fresh database with events in it; its indexes are removed afterwards."""
    server = settings.database_url.get_secret_value()
    name = f"bench_{time.time_ns()}"
    root = connect(server)
    with root.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    settings = settings.model_copy(
        update={"database_url": type(settings.database_url)(make_dsn(server, dbname=name)), "index_prefix": name}
    )
    connection = connect(settings.database_url.get_secret_value())
    schema.migrate(connection)
    fill(connection, events)
    yield settings, connection
    connection.close()
    with index_client.connect(settings) as client:
        for index in indexes.list_all(client, name):
            indexes.delete(client, index)
    with root.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    root.close()


def fill(connection: Connection, events: int) -> None:
    """Store so many events in one transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, (events,))
        cursor.execute("ANALYZE")


@contextmanager
def _indexing(settings: Settings) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Indexer(settings, stop).run)
    thread.start()
    yield
    stop.set()
    thread.join()


def _wait(connection: Connection, seq: int) -> None:
    while watermark.read(connection).seq < seq:
        time.sleep(0.02)


def _bare_bulk(settings: Settings, connection: Connection) -> float:
    """Index the same documents with nothing but the client's own helper; they are ready in memory."""
    events: list[Event] = []
    after = 0
    while batch := read_batch(connection, after=after, to=2**40).events:
        events += batch
        after = batch[-1].seq
    month = month_of(events[0].created_at)
    documents = [orjson.loads(orjson.dumps(mapping.to_document(event))) for event in events]
    # The client as everybody has it, with the faster of its own serializers.
    from elasticsearch.serializer import OrjsonSerializer

    with Elasticsearch(settings.elasticsearch_url, serializer=OrjsonSerializer(), request_timeout=60) as client:
        index = indexes.create(client, settings.index_prefix, month, replicas=0, visible=False).name
        started = time.perf_counter()
        actions = ({"_index": index, "_id": str(doc["seq"]), "_source": doc} for doc in documents)
        for done, result in helpers.parallel_bulk(client, actions, thread_count=4, chunk_size=1_000):
            assert done, result
        indexes.refresh(client, [index])
        seconds = time.perf_counter() - started
        indexes.delete(client, index)
    return len(documents) / seconds


def _measure_indexer(settings: Settings, events: int) -> list[tuple[str, str, str]]:
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    with _filled(settings, events) as (here, connection):
        _bare_bulk(here, connection)  # warms Elasticsearch up
        for _ in range(2):
            rates["bare"].append(_bare_bulk(here, connection))
            started = time.perf_counter()
            with _indexing(here):
                _wait(connection, events)
                rates["ours"].append(events / (time.perf_counter() - started))
            forget(here, connection)
    ours, bare = max(rates["ours"]), max(rates["bare"])
    what = f"indexer, {events:,} events, beside `helpers.parallel_bulk` of the same documents"
    return [(what, f"{ours:,.0f}/s beside {bare:,.0f}/s: {ours / bare:.2f}", "≥ 0.8")]


def forget(settings: Settings, connection: Connection) -> None:
    """Delete all indexes, so that the next indexer begins with the first event."""
    with index_client.connect(settings) as client:
        for index in indexes.list_all(client, settings.index_prefix):
            indexes.delete(client, index)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM index_month; UPDATE watermark SET checkpoint = 0, seq = 0, fence = fence + 1")


def _measure_lag(settings: Settings, seconds: int) -> list[tuple[str, str, str]]:
    with _filled(settings, 1_000) as (here, connection), _indexing(here):
        _wait(connection, 1_000)
        lags = asyncio.run(_lags(here, seconds))
    lags.sort()
    p50, p99 = statistics.median(lags), lags[int(len(lags) * 0.99)]
    what = f"lag from commit to visible with `consistency=eventual`, 500 events/s for {seconds} s"
    return [(what, f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {lags[-1]:.2f} s", "p99 < 1.5 s")]


async def _lags(settings: Settings, seconds: int) -> list[float]:
    client, pool = connect_async(settings), Pool(settings.database_url.get_secret_value(), size=2)
    reader = Reader(pool)
    search = Search(reader, BothStores(IndexReader(client), reader, alias=settings.index_prefix, cache_size=0))
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=4) as writers:
        for _ in range(4):
            writers.submit(_write, settings.database_url.get_secret_value(), 125, over)
        lags = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lags.append(await _lag(search, pool))
        over.set()
    await client.close()
    await asyncio.to_thread(pool.close)
    return lags


async def _lag(search: Search, pool: Pool) -> float:
    """Write one event, and look for it until an eventual search finds it."""

    def insert(connection: Connection) -> str:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO event (id, email, environment, component, message, data)"
                " VALUES (gen_random_uuid(), 'a@b.test', 'probe', 'probe', 'where are you', '{}') RETURNING id"
            )
            return str(cursor.fetchall()[0][0])

    event_id = await pool.run(insert)
    started = time.perf_counter()
    query = compile_query(parse(f"id eq '{event_id}'", now=0))
    while not (await search.find(query, PageRequest(1), strong=False)).events:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return time.perf_counter() - started


def _write(dsn: str, rate: float, over: threading.Event) -> None:
    """Write events one by one, evenly."""
    connection = connect(dsn)
    due = time.monotonic()
    with connection.cursor() as cursor:
        while not over.is_set():
            cursor.execute(_FILL, (1,))
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
    connection.close()


def _measure_reindex(settings: Settings, events: int) -> list[tuple[str, str, str]]:
    with _filled(settings, events) as (here, connection):
        with _indexing(here):
            _wait(connection, events)
        bare = _bare_bulk_in_process(here)
        with open_stores(here) as stores:
            (month,) = list_months(connection)
            started = time.perf_counter()
            state = rebuild.rebuild(stores, month, rate=None, advance=lambda _: None)
            rate = events / (time.perf_counter() - started)
            rebuild.remove_old(stores, [state])
            rows = [
                (
                    f"reindex of {events:,} events beside bare bulk",
                    f"{rate:,.0f}/s beside {bare:,.0f}/s: {rate / bare:.2f}",
                    "≥ 0.8",
                )
            ]
            for quick in (False, True):
                started = time.perf_counter()
                (report,) = verify(stores, [month], quick=quick)
                assert report.equal
                what = f"verify{' --quick' if quick else ''} of {events:,} equal events"
                rows.append((what, f"{time.perf_counter() - started:.1f} s", "< 60 s"))
    return rows


SIZE = 300_000  # events of tests/bench/generate.py, 400 bytes each


def _measure_size(settings: Settings) -> list[tuple[str, ...]]:
    """Index events, and ask Elasticsearch for the bytes of each field, before and after segments are merged."""
    with _filled(settings, 0) as (here, connection):
        generate.fill(connection, SIZE)
        started = time.perf_counter()
        with _indexing(here):
            _wait(connection, SIZE)
            searchable = time.perf_counter() - started
        with index_client.connect(here) as opened:
            client = opened.options(request_timeout=600)
            before = store_bytes(client, here.index_prefix)
            client.indices.forcemerge(index=f"{here.index_prefix}*", max_num_segments=1, expand_wildcards="all")
            after = store_bytes(client, here.index_prefix)
            fields = _field_bytes(client, here.index_prefix)
    rows: list[tuple[str, ...]] = [
        (f"everything, when the last event is searchable, after {searchable:.0f} s", f"{before / SIZE:.0f}"),
        ("everything, once merged", f"{after / SIZE:.0f}"),
    ]
    return rows + [(f"`{name}`", f"{size / SIZE:.0f}") for name, size in fields.most_common() if size >= SIZE]


def store_bytes(client: Elasticsearch, prefix: str) -> int:
    """Give the bytes of all indexes with this prefix."""
    client.indices.refresh(index=f"{prefix}*", expand_wildcards="all")
    stats = client.indices.stats(index=f"{prefix}*", metric="store", expand_wildcards="all")
    return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])


def _field_bytes(client: Elasticsearch, prefix: str) -> Counter[str]:
    found: Counter[str] = Counter()
    usage = client.indices.disk_usage(index=f"{prefix}*", run_expensive_tasks=True, expand_wildcards="all")
    for name, index in usage.items():
        if name != "_shards":
            found.update({field: part["total_in_bytes"] for field, part in index["fields"].items()})
    return found


def _bare_bulk_in_process(settings: Settings) -> float:
    """Measure bare bulk in a process of its own: a million documents in memory would slow us down."""
    code = (
        "import json, runpy, sys; from eventsvc.settings import load; from eventsvc.log.connection import connect;"
        "bench = runpy.run_path(sys.argv[1]); values = json.loads(sys.argv[2]);"
        "print(bench['_bare_bulk'](load({}, **values), connect(values['database_url'])))"
    )
    values: dict[str, Any] = {
        "database_url": settings.database_url.get_secret_value(),
        "elasticsearch_url": settings.elasticsearch_url,
        "index_prefix": settings.index_prefix,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, __file__, json.dumps(values)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
