"""The stack from outside, through the published port."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from eventsvc.access.rights import AUDIT_COMPONENT
from eventsvc.event import Event, parse_nanoseconds, parse_time
from eventsvc.query.parse import parse
from eventsvc.query.to_predicate import Candidate, to_predicate
from tests.containers import stack as stacks
from tests.containers.load import Load, check
from tests.containers.stack import SERVICES, Stack, disconnected, kill_process, wait_for

SEED: dict[str, Any] = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "the buyer #123456 has placed an order",
    "data": {"order_id": 123, "amount": 300, "created_at": "2018-09-27"},
}
SEED_QUERY = "((email eq 'diego@chefhero.com') AND (createdAt gte '2018-1-1') AND (message ct 'buyer' ))"
LINES = 10_000
OUTAGE = 15.0  # seconds


def test_the_three_requests(stack: Stack) -> None:
    """Store one event, find it by the seed's query, get it by its id: at once, whatever process answers."""
    stored = stack.post(SEED)
    assert stored.status_code == 201
    event = stored.json()
    assert {name: event[name] for name in SEED} == SEED
    for _ in range(10):
        assert event in stack.find(SEED_QUERY).json()
        assert stack.get(stored.headers["Location"]).json() == event


def test_nobody_gets_in_without_a_key_and_prometheus_has_one_of_its_own(stack: Stack) -> None:
    """Reads, writes and metrics are closed; the key for metrics opens nothing else."""
    key = stack.read_secret("prometheus", "metrics_key").strip()
    curl = ("exec", "-T", "nginx", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}")

    def ask(path: str, *options: str) -> str:
        return stack.compose(*curl, *options, f"http://api:8000{path}").strip()

    metrics = ("-H", f"Authorization: Bearer {key}")
    assert requests.get(f"{stack.url}/event", timeout=30).status_code == 401
    assert requests.post(f"{stack.url}/event", json=SEED, timeout=30).status_code == 401
    assert [ask("/metrics"), ask("/metrics", *metrics), ask("/event", *metrics)] == ["401", "200", "403"]


def _real_lines(stack: Stack) -> list[dict[str, Any]]:
    """Lines of real logs: the stack's own, then those of this machine; from the start again if they are too few."""
    found = [tuple(line.split("|", 1)) for line in stack.logs().splitlines() if "|" in line]
    for path in sorted(Path("/var/log").rglob("*.log")):
        found += [(path.stem, line) for line in path.read_text(errors="replace").splitlines()]
    texts = [(name.strip(), text.strip().replace("\0", "")[:8_000]) for name, text in found]
    texts = [(name, text) for name, text in texts if text]
    return [
        {"email": "log@example.com", "environment": "containers", "component": name, "message": text, "data": {"n": n}}
        for n, (name, text) in zip(range(LINES), itertools.cycle(texts), strict=False)
    ]


def _post_lines(stack: Stack, lines: list[dict[str, Any]]) -> None:
    headers = stack.key | {"Content-Type": "application/x-ndjson"}
    body = "\n".join(json.dumps(line) for line in lines).encode()
    answer = requests.post(f"{stack.url}/event", data=body, headers=headers, timeout=120)
    assert answer.status_code == 201, answer.text[:500]


def test_ten_thousand_real_log_lines(stack: Stack) -> None:
    """In bulk; then queries give what a plain loop over the lines gives; verify and reindex find all equal."""
    environment = f"bulk-{uuid.uuid4().hex[:8]}"
    lines = [line | {"environment": environment} for line in _real_lines(stack)]
    _post_lines(stack, lines)
    stored = stack.export(f"environment eq '{environment}'")
    assert sorted(event["data"]["n"] for event in stored) == list(range(LINES))
    for event in stored:
        assert {name: event[name] for name in lines[0]} == lines[event["data"]["n"]]
    queries = (
        "message ct 'elasticsearch'",
        "message ct '\"'",
        "message ct ' started'",
        "component sw 'NGINX'",
        "message ct '200' AND NOT (component ct 'nginx' OR message ct 'api')",
        "data.n gte 9990",
        "message ct '#'",
    )
    for query in queries:
        _compare(stack, f"environment eq '{environment}' AND ({query})", stored)
    assert "equal" in stack.admin("verify")
    stack.admin("reindex")
    assert "equal" in stack.admin("verify")
    _compare(stack, f"environment eq '{environment}' AND message ct 'postgres'", stored)


def _compare(stack: Stack, query: str, stored: list[dict[str, Any]]) -> None:
    matches = to_predicate(parse(query, now=int(time.time() * 1000)))
    expected = [event for event in stored if matches(Candidate(_event(event)))]
    assert stack.export(query) == expected, query


def _event(form: dict[str, Any]) -> Event:
    values = {name: form[name] for name in ("id", "email", "environment", "component", "message")}
    created, occurred = parse_time(form["createdAt"]), parse_nanoseconds(form["occurredAt"])
    return Event(seq=0, created_at=created, occurred_at=occurred, data=json.dumps(form["data"]), **values)


def test_requests_are_spread_evenly(stack: Stack) -> None:
    """Each of three replicas gets about a third."""
    marker = f"/event/{uuid.uuid4()}"
    with requests.Session() as session:
        for _ in range(900):
            session.get(stack.url + marker, headers=stack.key, timeout=30)
    served = Counter(re.findall(rf'"url.path":"{marker}".*?"upstream":"([^"]+)"', stack.logs()))
    assert sum(served.values()) == 900
    assert len(served) == 3
    assert min(served.values()) > 200, served


def test_streams_pass_the_balancer_as_they_come(stack: Stack) -> None:
    """A live event arrives while the request is still open; NDJSON begins long before it ends."""
    live = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    live.request("GET", "/event/stream?q=component%20eq%20%27live%27", headers=stack.key)
    answer = live.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    text = b""
    wanted = stack.post(SEED | {"component": "live"}).json()["id"].encode()
    while wanted not in text:
        text += answer.read1()
    live.close()
    run = uuid.uuid4().hex
    _post_lines(stack, [SEED | {"component": run, "message": "x" * 2_000, "data": n} for n in range(LINES)])
    stack.wait_ready()
    lines = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    began = time.monotonic()
    headers = stack.key | {"Accept": "application/x-ndjson"}
    lines.request("GET", f"/event?q=component%20eq%20%27{run}%27", headers=headers)
    answer = lines.getresponse()
    answer.read(1)
    first = time.monotonic() - began
    answer.read()
    assert first < (time.monotonic() - began) / 2
    lines.close()


@pytest.mark.parametrize("service", SERVICES)
def test_each_container_is_killed_under_load(stack: Stack, service: str) -> None:
    """SIGKILL: no acknowledged event is lost, none is stored twice, answers are right or 503, and it comes back."""
    with (
        Load(stack.port, threads=4, keys=True, key=stack.key) as keyed,
        Load(stack.port, threads=4, key=stack.key) as plain,
    ):
        for container in stack.containers(service):
            wait_for(plain.outcome.more(50), 60, "load")
            kill_process(container)
            if service in ("elasticsearch", "indexer"):
                # Searches go on: in PostgreSQL alone, or over a longer tail.
                answer = stack.find(f"component eq '{plain.run}'", limit="1")
                assert answer.status_code == 200
            stack.wait_healthy(container)
        stack.wait_back()
    stack.wait_ready()
    # A balancer that dies breaks a connection, and so does an API process between the head of an answer, which the
    # balancer has passed on, and its body; everything else says 503.
    allowed = {0, 503} if service in ("nginx", "api") else {503}
    if service in ("elasticsearch", "indexer"):
        allowed = set()
    # A key that is still under way with a process that has just died.
    check(stack, keyed, allowed=allowed | ({409} if allowed else set()))
    check(stack, plain, allowed=allowed)


@pytest.mark.parametrize(("service", "allowed"), [("elasticsearch", set()), ("postgres", {503})])
def test_the_network_fails_for_a_while(stack: Stack, service: str, allowed: set[int]) -> None:
    """Without Elasticsearch all is answered from PostgreSQL; without PostgreSQL it is a 503; then all is well."""
    with Load(stack.port, threads=4, key=stack.key) as load:
        wait_for(lambda: len(load.outcome.acknowledged) > 50, 60, "load")
        with disconnected(stack, service, "backend"):
            until = time.monotonic() + OUTAGE
            answers = set()
            while time.monotonic() < until:
                answers.add(stack.find(f"component eq '{load.run}'", limit="5").status_code)
        assert answers <= {200} | allowed
        stack.wait_back()
        wait_for(load.outcome.more(50), 60, "load afterwards")
    stack.wait_ready()
    check(stack, load, allowed=allowed)


def test_rolling_restart_without_a_failed_request(stack: Stack) -> None:
    """One replica after the other is restarted under load, and nobody notices."""
    with Load(stack.port, threads=8, key=stack.key) as load:
        wait_for(lambda: len(load.outcome.acknowledged) > 50, 60, "load")
        for container in stack.containers("api"):
            stacks.run("docker", "restart", "-t", "40", container)
            stack.wait_healthy(container)
    stacks.say(f"test-containers: rolling restart: {load.outcome.statuses}, slowest {load.outcome.slowest:.1f} s")
    check(stack, load, allowed=set())


# The service tells of requests with a key as events of its own.
_SENT = f"component ne '{AUDIT_COMPONENT}'"
_COUNT = f"SELECT count(*) FROM event WHERE component <> '{AUDIT_COMPONENT}'"


def test_data_outlive_containers_and_a_backup_outlives_all(stack: Stack, tmp_path: Path) -> None:
    """down and up keep everything; down -v and up start empty; a dump restored there, indexed again, is equal."""
    stack.post(SEED)
    stack.wait_ready()
    count = stack.sql(_COUNT)
    newest = stack.find(_SENT, limit="1000").json()
    stack.down()
    stack.up()
    stack.wait_ready()
    assert stack.sql(_COUNT) == count
    assert stack.find(_SENT, limit="1000").json() == newest
    stack.pipe(("pg_dump", "-U", "eventsvc", "-Fc", "eventsvc"), output=tmp_path / "dump")
    secrets_before = stack.secrets()

    stack.down("-v")
    stack.up()
    assert stack.sql("SELECT count(*) FROM event") == "0"
    assert not set(stack.secrets()) & set(secrets_before)

    stack.down("-v")
    _restore(stack, tmp_path / "dump")
    assert stack.sql(_COUNT) == count
    assert stack.find(_SENT, limit="1000").json() == newest
    stack.wait_ready()
    assert "equal" in stack.admin("verify")
    assert stack.find(_SENT, limit="1000").json() == newest


def _restore(stack: Stack, dump: Path) -> None:
    """As docs/deployment.md says it."""
    stack.up("postgres")
    stack.pipe(("pg_restore", "-U", "eventsvc", "-d", "eventsvc", "--clean", "--if-exists"), source=dump)
    stack.compose("run", "--rm", "--no-deps", "migrate")
    stack.up()
    stack.admin("verify", "--repair")


def test_the_api_cannot_read_the_first_keys(stack: Stack) -> None:
    files = stack.compose("exec", "-T", "api", "ls", "/run/eventsvc").split()
    assert files == ["ca.crt", "database_url", "elasticsearch_password"]


def test_logs_hold_no_secret_and_no_traceback(stack: Stack) -> None:
    """Whatever the other tests did to it."""
    logs = "\n".join([*stack.logs_of_the_past, stack.logs()])
    assert [secret[:4] for secret in stack.secrets() if secret in logs] == []
    assert "Traceback" not in logs, logs[logs.index("Traceback") - 500 :][:3000]
    # Nor what people sent or looked for.
    assert SEED["email"] not in logs
