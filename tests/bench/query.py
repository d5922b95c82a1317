"""What a search costs: the service beside Elasticsearch asked directly, a wildcard, and PostgreSQL alone.

All in one run on one machine. The service is asked over HTTP, strongly, with a tail that the index does not have yet;
once with its kept answers switched off, and once as it is. Servers are found like in the tests:
EVENTSVC_TEST_DATABASE_URL and EVENTSVC_TEST_ELASTICSEARCH_URL, else local ones. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from elasticsearch import AsyncElasticsearch
from psycopg2.extensions import make_dsn

from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.server import wait_until_ready
from eventsvc.errors import LogTimeout
from eventsvc.index.client import connect_async
from eventsvc.index.reader import Scope
from eventsvc.indexer.indexer import Indexer
from eventsvc.log import schema, trigram_index
from eventsvc.log.connection import Connection, Pool, connect
from eventsvc.log.read.page import PageQuestion
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PageRequest
from eventsvc.query.parse import parse
from eventsvc.search.search import Compiled, compile_query
from eventsvc.settings import Settings, load
from tests.bench import generate
from tests.bench.service import Service
from tests.report import replace_block

LIMIT = 100
TAIL = 500  # events that the index does not have yet: a second of a busy log
SECONDS = 3.0  # for each figure
LEAST, MOST = 7, 200  # measurements
SLOW = 10.0  # seconds after which PostgreSQL is given up
LARGE = 2_000_000  # events; a larger log is not indexed a second time for `wildcard` and pg_trgm: that takes an hour

QUERIES = {
    "eq": "email eq 'user42@chefhero.com'",
    "ct common": "message ct 'buyer'",
    "ct rare": "message ct '#{number}'",  # another one each time: what nobody has asked before
    "ct 2 characters": "message ct '#4'",
    "eq AND ct AND gte": "email eq 'user42@chefhero.com' AND message ct 'buyer' AND createdAt gte 'now-20d'",
    "gte last day": "createdAt gte 'now-1d'",
    "data range": "data.amount gte 100 AND data.amount lt 101",
}
NEEDLES = {"ct common": "buyer", "ct rare": "#{number}", "ct 2 characters": "#4"}

# Other questions over HTTP, each with the p50 in ms that it was to reach at 1,000,000 events.
OTHERS = {
    "any eq": ("/event", {"q": "any eq 'user{number}@chefhero.com'", "limit": "100"}, "< 15 ms"),
    "any ct of a rare id": ("/event", {"q": "any ct '#{number}'", "limit": "100"}, "< 30 ms"),
    "newest 100, by createdAt": ("/event", {"q": "message ct 'buyer'", "limit": "100"}, ""),
    "newest 100, by occurredAt": (
        "/event",
        {"q": "message ct 'buyer'", "limit": "100", "orderBy": "occurredAt"},
        "1.3 times by createdAt",
    ),
    "the neighbours of an event": ("/event/{id}/context", {"before": "20", "after": "20"}, "< 10 ms"),
    "stats of everything, by component and day": ("/event/stats", {"by": "component", "interval": "1d"}, ""),
    "stats of everything, by a path of data and day": (
        "/event/stats",
        {"by": "data.user.plan", "interval": "1d"},
        "< 300 ms",
    ),
}

Measured = tuple[float, float]  # p50 and p95 in ms
Row = dict[str, Measured | None]  # by column; None took too long
Ask = Callable[[int], Awaitable[Any]]  # takes the number of the turn


async def measure(asks: dict[str, Ask]) -> dict[str, Measured]:
    """Ask in turns, again and again, so that all find the same machine and the same warm caches."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    for ask in asks.values():
        await ask(MOST)
    end = time.perf_counter() + SECONDS * len(asks)
    order = list(asks.items())
    for turn in range(MOST):
        if turn >= LEAST and time.perf_counter() > end:
            break
        for name, ask in order:
            asking = ask(turn)
            began = time.perf_counter()
            await asking
            times[name].append((time.perf_counter() - began) * 1000)
        order.append(order.pop(0))  # the first to ask something new finds it cold
    return {name: summarise(sorted(each)) for name, each in times.items()}


def vary(text: str, turn: int) -> str:
    """Put a number of the generator's into a query, another one each turn."""
    return text.replace("{number}", f"{(turn + 1) * 104_729 % 1_000_000}")


def summarise(times: list[float]) -> Measured:
    return statistics.median(times), times[min(len(times) - 1, round(len(times) * 0.95))]


class Bench:
    """One log of some size, with its index, and beside it what the figures are compared with."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings, self.count = settings, count
        self.dsn = settings.database_url.get_secret_value()
        self.pool = Pool(self.dsn, size=2, statement_timeout=SLOW)
        self.reader = Reader(self.pool)
        self.others: dict[str, Measured] = {}

    @property
    def is_large(self) -> bool:
        return self.count > LARGE

    def fill(self) -> None:
        connection = connect(self.dsn)
        schema.migrate(connection)
        began = time.perf_counter()
        generate.fill(connection, self.count)
        say(f"{self.count:,} events copied in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        self._index(connection)
        say(f"indexed in {time.perf_counter() - began:.0f} s")
        generate.fill(connection, TAIL, days=TAIL / 86_400_000, seed=generate.SEED + 1)
        connection.close()

    def _index(self, connection: Connection) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=Indexer(self.settings, stop).run)
        thread.start()
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT (SELECT seq FROM watermark) >= (SELECT max(seq) FROM event)")
                if cursor.fetchall()[0][0]:
                    break
                time.sleep(0.2)
        stop.set()
        thread.join()

    async def run(self) -> dict[str, Row]:
        """Measure every query in every way."""
        client = connect_async(self.settings).options(request_timeout=120)
        indexes = (await self.reader.state()).indexes
        if not self.is_large:
            await self._make_wildcard_index(client, indexes)
        with self._service(cache=0) as service, self._service(cache=32) as keeping:
            async with aiohttp.ClientSession() as session:
                found: dict[str, Row] = {}
                for name, text in QUERIES.items():
                    asks: dict[str, Ask] = {"service": partial(ask, session, service, text)}
                    if vary(text, 0) == text:
                        asks["kept"] = partial(ask, session, keeping, text)
                    asks |= self._beside_it(client, indexes, name)
                    found[name] = {**await measure(asks), "sql": await self._in_sql(text)}
                    say(f"{name}: {found[name]}")
                ids = await self.pool.run(_list_ids)
                others: dict[str, Ask] = {name: partial(ask_other, session, service, name, ids) for name in OTHERS}
                self.others = await measure(others)
                say(f"{self.others}")
        if not self.is_large:
            await asyncio.to_thread(self._add_trigrams)
            for name, text in QUERIES.items():
                found[name]["sql + pg_trgm"] = await self._in_sql(text)
        await client.close()
        await asyncio.to_thread(self.pool.close)
        return found

    def _beside_it(self, client: AsyncElasticsearch, indexes: tuple[str, ...], name: str) -> dict[str, Ask]:
        def ours(turn: int) -> Any:
            return direct(client, indexes, Scope(indexes, None).narrow(compiled(QUERIES[name], turn).index or {}))

        def usual(turn: int) -> Any:
            pattern = f"*{vary(NEEDLES[name], turn)}*"
            wildcard = {"wildcard": {"message": {"value": pattern, "case_insensitive": True}}}
            return direct(client, (self._beside,), wildcard)

        return {"direct": ours, "wildcard": usual} if name in NEEDLES and not self.is_large else {"direct": ours}

    def _service(self, *, cache: int) -> Service:
        settings = {
            "EVENTSVC_DATABASE_URL": self.dsn,
            "EVENTSVC_ELASTICSEARCH_URL": self.settings.elasticsearch_url,
            "EVENTSVC_INDEX_PREFIX": self.settings.index_prefix,
            "EVENTSVC_SEARCH_CACHE": str(cache),
            "EVENTSVC_WORKERS": "1",
        }
        return Service(settings, "-m", "eventsvc", "serve")

    async def _in_sql(self, text: str) -> Measured | None:
        def in_sql(turn: int) -> Any:
            return self.reader.whole(compiled(text, turn).log, PageQuestion(PageRequest(LIMIT)))

        try:
            return (await measure({"sql": in_sql}))["sql"]
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
                source_includes=["seq", "createdAt", "message"],
                search_after=after,
                track_total_hits=False,
            )
            hits = page["hits"]["hits"]
            if not hits:
                break
            after = hits[-1]["sort"]
            action: dict[str, Any] = {"index": {}}
            operations = [part for hit in hits for part in (action, hit["_source"])]
            await client.bulk(index=self._beside, operations=operations)
        await client.indices.refresh(index=self._beside)

    def _add_trigrams(self) -> None:
        connection = connect(self.dsn)
        trigram_index.enable(connection)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE event")
        connection.close()


def compiled(text: str, turn: int) -> Compiled:
    return compile_query(parse(vary(text, turn), now=time.time_ns() // 1_000_000))


async def ask(session: aiohttp.ClientSession, service: Service, text: str, turn: int) -> None:
    """Ask as any client does."""
    url = f"http://127.0.0.1:{service.port}/event"
    async with session.get(url, params={"q": vary(text, turn), "limit": str(LIMIT)}) as answer:
        await answer.read()
        source = answer.headers.get("Eventsvc-Source")
        assert source in {"index+tail", "cache+tail", "log"}, (answer.status, source)


async def ask_other(session: aiohttp.ClientSession, service: Service, name: str, ids: list[str], turn: int) -> None:
    path, parameters, _ = OTHERS[name]
    url = f"http://127.0.0.1:{service.port}{path.replace('{id}', ids[turn % len(ids)])}"
    async with session.get(url, params={key: vary(text, turn) for key, text in parameters.items()}) as answer:
        await answer.read()
        assert answer.status == 200, (answer.status, url)


def _list_ids(connection: Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM event TABLESAMPLE SYSTEM (1) LIMIT 200")
        return [name for (name,) in cursor]


async def direct(client: AsyncElasticsearch, indexes: tuple[str, ...], query: dict[str, Any]) -> Any:
    """The same search, sent straight with elasticsearch-py."""
    return await client.search(
        index=",".join(indexes),
        query={"bool": {"filter": [query]}},
        sort=[{"createdAt": "desc"}, {"seq": "desc"}],
        size=LIMIT,
        track_total_hits=False,
    )


COLUMNS = {
    "service": "service",
    "kept": "service, answer kept",
    "direct": "Elasticsearch itself",
    "wildcard": "`wildcard` of a keyword",
    "sql": "PostgreSQL",
    "sql + pg_trgm": "PostgreSQL with pg_trgm",
}


def show(count: int, found: dict[str, Row]) -> list[str]:
    """Make a table of all figures."""
    lines = [f"{count:,} events, p50 / p95 in ms:", ""]
    lines += ["| query |" + "".join(f" {column} |" for column in COLUMNS.values()), "| --- |" + " --- |" * len(COLUMNS)]
    for name, row in found.items():
        cells = []
        for column in COLUMNS:
            figures = row.get(column)
            cells.append(f"{figures[0]:.1f} / {figures[1]:.1f}" if figures else "> 10 s" if column in row else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def show_others(found: dict[str, Measured]) -> list[str]:
    """Make a table of the other questions."""
    lines = ["| question, over HTTP | p50 / p95 | to reach |", "| --- | --- | --- |"]
    lines += [f"| {name} | {p50:.1f} / {p95:.1f} ms | {OTHERS[name][2]} |" for name, (p50, p95) in found.items()]
    return [*lines, ""]


def judge(sizes: list[int], found: list[dict[str, Row]]) -> list[str]:
    """Make a table of the figures that were to be reached."""
    head = "| query | service p50 | to reach: Elasticsearch + 2 ms | "
    lines = [head + f"{sizes[0]:,} → {sizes[-1]:,} (< 2) | faster than `wildcard` |", "| --- | --- | --- | --- | --- |"]
    for name, row in found[-1].items():
        service, before, bare = (one and one[0] for one in (row["service"], found[0][name]["service"], row["direct"]))
        assert service
        assert before
        assert bare
        wildcard = row.get("wildcard")
        times = f"{wildcard[0] / service:.1f}-fold" if wildcard else ""
        limit = bare + 2
        verdict = "" if service <= limit else " **missed**"
        lines.append(f"| {name} | {service:.1f} ms | {limit:.1f} ms{verdict} | {service / before:.2f}-fold | {times} |")
    return lines


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def filled(count: int, postgres: str, elasticsearch: str) -> Iterator[Bench]:
    """A log with so many events, in the index; both are removed afterwards."""
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
        yield bench
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
        return str(response.read(), "utf-8").split()


def main() -> None:
    """Measure each size, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[100_000, 1_000_000], help="how many events")
    parser.add_argument("--report", type=Path, help="document whose block between the marks is replaced")
    parser.add_argument("--name", default="bench-query", help="the marks, and the target of make")
    options = parser.parse_args()
    found = measure_all(options.sizes)
    lines = []
    for count, (queries, others) in zip(options.sizes, found, strict=True):
        lines += show(count, queries) + show_others(others)
    lines += judge(options.sizes, [queries for queries, _ in found])
    print("\n".join(lines))
    if options.report:
        write(options.report, options.name, "\n".join(lines))


def measure_all(sizes: list[int]) -> list[tuple[dict[str, Row], dict[str, Measured]]]:
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
            with ExitStack() as stack:  # all logs are filled first, so that they are measured in the same minutes
                benches = [stack.enter_context(filled(count, postgres.url, elasticsearch.url)) for count in sizes]
                return [(asyncio.run(bench.run()), bench.others) for bench in benches]
        finally:
            elasticsearch.stop()
            postgres.stop()


def write(document: Path, name: str, tables: str) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"`make {name}`, {today}, {os.cpu_count()} cores, one run:"
    replace_block(document, name, f"{head}\n\n{tables}")


if __name__ == "__main__":
    main()
