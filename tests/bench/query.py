"""What a search costs: the service beside Elasticsearch asked directly, a wildcard, and PostgreSQL alone.

``python tests/bench/query.py [COUNT …]`` (default 100000 1000000). Servers are found like in the tests:
EVENTSVC_TEST_DATABASE_URL and EVENTSVC_TEST_ELASTICSEARCH_URL, else local ones. Prints Markdown.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import os

import generate
import psycopg2.errors
from elasticsearch import AsyncElasticsearch
from psycopg2.extensions import make_dsn

from eventsvc.index.client import connect_async
from eventsvc.index.hits import Hits, Scope
from eventsvc.indexer.indexer import Indexer
from eventsvc.log import schema
from eventsvc.log.connection import Connection, Pool, connect
from eventsvc.log.reader import Reader
from eventsvc.log.slices import Slice
from eventsvc.query.parse import parse
from eventsvc.search.joined import Joined
from eventsvc.search.search import Compiled, Search, compile_query
from eventsvc.servers.find import find_elasticsearch, find_postgres
from eventsvc.servers.server import wait_until_ready
from eventsvc.settings import Settings, load

LIMIT = 100
SECONDS = 3.0  # for each figure
LEAST, MOST = 7, 200  # measurements
SLOW = 10.0  # seconds after which PostgreSQL is given up

QUERIES = {
    "eq": "email eq 'user42@chefhero.com'",
    "ct common": "message ct 'buyer'",
    "ct rare": f"message ct '{generate.RARE}'",
    "ct 2 characters": "message ct '#4'",
    "eq AND ct AND gte": "email eq 'user42@chefhero.com' AND message ct 'buyer' AND createdAt gte 'now-20d'",
    "gte last day": "createdAt gte 'now-1d'",
    "data range": "data.amount gte 100 AND data.amount lt 101",
}
NEEDLES = {"ct common": "buyer", "ct rare": generate.RARE, "ct 2 characters": "#4"}

Measured = tuple[float, float]  # p50 and p95 in ms


async def measure(ask: Callable[[], Awaitable[Any]]) -> Measured:
    """Ask again and again, one after the other."""
    await ask()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < LEAST or (time.perf_counter() < end and len(times) < MOST):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1000)
        if times[-1] > SLOW * 300:
            break
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, round(len(times) * 0.95))]


class Bench:
    """One log of some size, with its index, and beside it what the figures are compared with."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings, self.count = settings, count
        self.dsn = settings.database_url.get_secret_value()
        self.pool = Pool(self.dsn, size=2, statement_timeout=SLOW)
        self.reader = Reader(self.pool)

    def fill(self) -> None:
        connection = connect(self.dsn)
        schema.migrate(connection)
        began = time.perf_counter()
        generate.fill(connection, self.count)
        say(f"{self.count:,} events copied in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        self._index(connection)
        say(f"indexed in {time.perf_counter() - began:.0f} s")
        connection.close()

    def _index(self, connection: Connection) -> None:
        indexer = Indexer(self.settings)
        thread = threading.Thread(target=indexer.run)
        thread.start()
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT (SELECT seq FROM watermark) >= (SELECT max(seq) FROM event)")
                if cursor.fetchall()[0][0]:
                    break
                time.sleep(0.2)
        indexer.stop()
        thread.join()

    async def run(self) -> dict[str, dict[str, Measured | None]]:
        client = connect_async(self.settings).options(request_timeout=120)
        joined = Joined(Hits(client, 60), alias=self.settings.index_prefix, cache_size=0)
        search = Search(self.reader, joined)
        moment = await self.reader.moment()
        await self._make_wildcard_index(client, moment.indexes)
        found: dict[str, dict[str, Measured | None]] = {}
        for name, text in QUERIES.items():
            query = compile_query(parse(text, now=time.time_ns() // 1_000_000))
            row: dict[str, Measured | None] = {}
            row["service"] = await measure(lambda query=query: search.find(query, Slice(LIMIT)))
            body = Scope(moment.indexes, None).narrow(query.index or {})
            row["direct"] = await measure(lambda body=body: direct(client, moment.indexes, body))
            if name in NEEDLES:
                wildcard = {"wildcard": {"message": {"value": f"*{NEEDLES[name]}*", "case_insensitive": True}}}
                row["wildcard"] = await measure(lambda body=wildcard: direct(client, (self._beside,), body))
            row["sql"] = await self._in_sql(query)
            found[name] = row
            say(f"{name}: {row}")
        await asyncio.to_thread(self._add_trigrams)
        for name, text in QUERIES.items():
            query = compile_query(parse(text, now=time.time_ns() // 1_000_000))
            found[name]["sql + pg_trgm"] = await self._in_sql(query)
        await client.close()
        await joined.close()
        await asyncio.to_thread(self.pool.close)
        return found

    async def _in_sql(self, query: Compiled) -> Measured | None:
        from eventsvc.errors import LogTimeout

        try:
            return await measure(lambda: self.reader.whole(query.log, Slice(LIMIT)))
        except LogTimeout:
            return None

    @property
    def _beside(self) -> str:
        return f"{self.settings.index_prefix}-beside"

    async def _make_wildcard_index(self, client: AsyncElasticsearch, indexes: tuple[str, ...]) -> None:
        """The usual way: message as a keyword, searched by ``wildcard``."""
        await client.indices.create(
            index=self._beside,
            settings={
                "number_of_shards": 1,
                "number_of_replicas": 0,
                "refresh_interval": "-1",
                "sort.field": ["createdAt", "seq"],
                "sort.order": ["desc", "desc"],
            },
            mappings={
                "dynamic": False,
                "properties": {
                    "message": {"type": "keyword"},
                    "createdAt": {"type": "date"},
                    "seq": {"type": "long"},
                },
            },
        )
        after: list[Any] | None = None
        while True:
            page = await client.search(
                index=",".join(indexes),
                size=5000,
                sort=["seq"],
                source=["seq", "createdAt", "message"],
                search_after=after,
                track_total_hits=False,
            )
            hits = page["hits"]["hits"]
            if not hits:
                break
            after = hits[-1]["sort"]
            operations = [part for hit in hits for part in ({"index": {}}, hit["_source"])]
            await client.bulk(index=self._beside, operations=operations)
        await client.indices.refresh(index=self._beside)

    def _add_trigrams(self) -> None:
        connection = connect(self.dsn)
        with connection.cursor() as cursor:
            with suppress(psycopg2.errors.DuplicateObject):
                cursor.execute("CREATE EXTENSION pg_trgm")
            cursor.execute(
                'CREATE INDEX event_message_trgm ON event USING gin (lower(message COLLATE "pg_c_utf8") gin_trgm_ops)'
            )
            cursor.execute("ANALYZE event")
        connection.close()


async def direct(client: AsyncElasticsearch, indexes: tuple[str, ...], query: dict[str, Any]) -> Any:
    """The same search, sent straight with elasticsearch-py."""
    return await client.search(
        index=",".join(indexes),
        query={"bool": {"filter": [query]}},
        sort=[{"createdAt": "desc"}, {"seq": "desc"}],
        size=LIMIT,
        track_total_hits=False,
    )


def show(count: int, found: dict[str, dict[str, Measured | None]]) -> None:
    columns = ("service", "direct", "wildcard", "sql", "sql + pg_trgm")
    print(f"\n{count:,} events, p50 / p95 in ms\n")
    print("| query |" + "".join(f" {column} |" for column in columns))
    print("| --- |" + " --- |" * len(columns))
    for name, row in found.items():
        cells = []
        for column in columns:
            figures = row.get(column)
            cells.append(f"{figures[0]:.1f} / {figures[1]:.1f}" if figures else "> 10 s" if column in row else "")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def judge(sizes: list[int], found: list[dict[str, dict[str, Measured | None]]]) -> None:
    """Print the figures that matter."""
    last = found[-1]
    for name, row in last.items():
        service, straight = row["service"], row["direct"]
        assert service
        assert straight
        allowed = 1.5 * straight[0] + 3
        verdict = "ok" if service[0] <= allowed else "MISSED"
        line = f"- {name}: service {service[0]:.1f} ms, 1.5 x {straight[0]:.1f} + 3 = {allowed:.1f} ms: {verdict}"
        if len(found) > 1:
            before = found[0][name]["service"]
            assert before
            line += f"; grows {service[0] / before[0]:.2f}-fold from {sizes[0]:,} to {sizes[-1]:,}"
        print(line)
    rare, wildcard = last["ct rare"]["service"], last["ct rare"].get("wildcard")
    if rare and wildcard:
        print(f"- ct rare is {wildcard[0] / rare[0]:.1f} times faster than a wildcard")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_one(count: int, postgres: str, elasticsearch: str) -> dict[str, dict[str, Measured | None]]:
    name = f"bench_{secrets.token_hex(4)}"
    connection = connect(postgres)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    prefix = name.replace("_", "-")
    settings = load(
        {}, database_url=make_dsn(postgres, dbname=name), elasticsearch_url=elasticsearch, index_prefix=prefix
    )
    try:
        bench = Bench(settings, count)
        bench.fill()
        return asyncio.run(bench.run())
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.close()
        for index in _indexes(elasticsearch, prefix):
            request = urllib.request.Request(f"{elasticsearch}/{index}", method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()


def _indexes(elasticsearch: str, prefix: str) -> list[str]:
    url = f"{elasticsearch}/_cat/indices/{prefix}*?h=index&expand_wildcards=all"
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode().split()


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or [100_000, 1_000_000]
    with tempfile.TemporaryDirectory(prefix="eventsvc-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        url = os.environ.pop("EVENTSVC_TEST_DATABASE_URL", "")
        postgres = find_postgres(folder, say=say, url=url, way="local")
        url = os.environ.pop("EVENTSVC_TEST_ELASTICSEARCH_URL", "")
        elasticsearch = find_elasticsearch(folder, say=say, url=url, way="local", heap="1g")
        assert elasticsearch is not None, "there is no Elasticsearch"
        try:
            for server in (postgres, elasticsearch):
                server.start()
                wait_until_ready(server, timeout=120)
            found = [run_one(count, postgres.url, elasticsearch.url) for count in sizes]
        finally:
            elasticsearch.stop()
            postgres.stop()
    for count, one in zip(sizes, found, strict=True):
        show(count, one)
    print()
    judge(sizes, found)


if __name__ == "__main__":
    main()
