"""`eventsvc dev`: start everything on this machine in order, watch the processes, and stop them in order."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

import orjson
from pydantic import SecretStr

from eventsvc import connection_file
from eventsvc.access.without_keys import check_start, has_key
from eventsvc.admin.transfer import import_events
from eventsvc.dev import elasticsearch
from eventsvc.dev.find import find_elasticsearch, find_postgres
from eventsvc.dev.process import BEHIND_REQUESTS, Process
from eventsvc.dev.server import Given, Server, wait_until_ready
from eventsvc.dev.status import StatusLine
from eventsvc.dev.watch import LogTail, watch
from eventsvc.errors import LogError, SetupError
from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.serve.gunicorn import check_address
from eventsvc.settings import PREFIX, Settings
from eventsvc.terminal import sample as sample_events
from eventsvc.terminal.service import Service, ServiceError, Target

_POSTGRES_SECONDS = 60.0
_ELASTICSEARCH_SECONDS = 300.0
_API_SECONDS = 60.0
_PREDECESSOR_SECONDS = 15.0
_POLL = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(settings: Settings, folder: Path, *, sample: bool = False) -> None:
    """Run everything until Ctrl-C or SIGTERM.

    Args:
        settings: names the URLs of servers that run already. The other servers are found or started.
        folder: the folder for data and logs.
        sample: True to store the sample events, unless some sample events are there.

    Raises:
        SetupError: a process cannot be started. All others are stopped again.
    """
    with _signals_interrupt(), ExitStack() as stack:
        try:
            crashed = stack.enter_context(_only_one(folder))
            _wait_for_address(settings, seconds=_PREDECESSOR_SECONDS if crashed else 0.0)
            servers = _start_servers(settings, folder, stack)
            complete = _with_urls(settings, servers)
            check_start(complete)
            children = _start_children(complete, folder, stack)
            stack.enter_context(connection_file.publish(folder, _connection(complete)))
            _say(_ready_line(complete, folder))
            if sample:
                _store_sample(complete)
            _watch(complete, servers, children)
        except KeyboardInterrupt:
            _say(f"stopping; the data stays in {folder}")
        finally:
            # No signal may interrupt the end. Each step of the end has a time limit.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    """Hold the lock of the folder while this process runs. Tell whether the last holder was killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as exc:
        raise SetupError(f"the data folder {folder} cannot be used: {exc.strerror}") from exc
    with file:
        file.seek(0)
        last = file.read().strip()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"{folder} is in use by another `eventsvc dev` (process {last}): "
                "stop that one, or take another folder (--data, or make run DATA=…)"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield bool(last)
        file.truncate(0)


def _wait_for_address(settings: Settings, *, seconds: float) -> None:
    """Check that the API can listen. The processes of a killed predecessor need a moment to end."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check_address(settings.host, settings.port)
        except SetupError as exc:
            if time.monotonic() >= deadline:
                raise SetupError(f"{exc}; take another one (--port, or make run PORT=…)") from exc
        time.sleep(_POLL)


def _start_servers(settings: Settings, folder: Path, stack: ExitStack) -> tuple[Server, ...]:
    """Start PostgreSQL, migrate its schema, and start Elasticsearch if possible. The stack stops both."""
    way = settings.dev_servers
    database = find_postgres(
        folder, say=_say, url=_given(settings, "database_url"), way=way, port=settings.dev_postgres_port
    )
    url = _given(settings, "elasticsearch_url")
    port = settings.dev_elasticsearch_port
    search = find_elasticsearch(
        folder,
        say=_say,
        url=url,
        way=way,
        heap=settings.dev_heap,
        port=port,
        repository=settings.dev_maven_repository,
    )
    servers = (database,) if search is None else (database, search)
    for server in servers:
        _say(f"{server.name}: {server.way}")
        stack.callback(server.stop)
        server.start()
    wait_until_ready(database, timeout=_POSTGRES_SECONDS)
    _migrate(database.url)
    if search is not None:
        wait_until_ready(search, timeout=_ELASTICSEARCH_SECONDS)
    return servers


def _given(settings: Settings, name: str) -> str:
    """Give the value of a URL that is set; "" if the setting has only its default."""
    if name not in settings.model_fields_set:
        return ""
    value = getattr(settings, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _with_urls(settings: Settings, servers: tuple[Server, ...]) -> Settings:
    database, *search = (server.url for server in servers)
    urls = {"database_url": SecretStr(database), "elasticsearch_url": "".join(search)}
    return settings.model_copy(update=urls)


def _connection(settings: Settings) -> dict[str, str]:
    """Give the variables that other commands need to reach the servers."""
    names = ["database_url", "elasticsearch_url", *({"index_prefix"} & settings.model_fields_set)]
    variables = settings.to_environment()
    shared = {variable: variables[variable] for variable in (PREFIX + name.upper() for name in names)}
    return shared | {f"{PREFIX}URL": _base_url(settings)}


def _migrate(url: str) -> None:
    connection = connect(url, application_name="eventsvc dev")
    try:
        schema.migrate(connection)
    finally:
        connection.close()


class _Child:
    """A command of eventsvc as a child process."""

    def __init__(self, command: str, settings: Settings, folder: Path) -> None:
        self.name = f"eventsvc {command}"
        self.log = folder / "logs" / f"{command}.log"
        self._command = [sys.executable, "-m", "eventsvc", command]
        ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environment = ours | settings.to_environment()
        # SIGQUIT ends gunicorn without a wait for open streams.
        death = signal.SIGQUIT if command == "serve" else signal.SIGTERM
        nice = BEHIND_REQUESTS if command == "index" else 0
        self._process = Process(self.name, log=self.log, death_signal=death, stop_timeout=30.0, nice=nice)

    def start(self) -> None:
        self._process.start(self._command, environment=self._environment, folder=Path.cwd())

    def alive(self) -> bool:
        return self._process.alive()

    def stop(self) -> None:
        self._process.stop()

    def last_lines(self) -> str:
        return self._process.last_lines()


def _start_children(settings: Settings, folder: Path, stack: ExitStack) -> list[_Child]:
    """Start the indexer, if there is an index, and the API; wait until the API is ready. The stack stops both."""
    commands = ("index", "serve") if settings.elasticsearch_url else ("serve",)
    children = [_Child(command, settings, folder) for command in commands]
    for child in children:
        stack.callback(child.stop)
        child.start()
    deadline = time.monotonic() + _API_SECONDS
    while not api_is_ready(settings):
        for child in children:
            if not child.alive():
                raise SetupError(f"`{child.name}` does not start; the end of its log:\n{child.last_lines()}")
        if time.monotonic() > deadline:
            raise SetupError(f"the API does not become ready; the end of its log:\n{children[-1].last_lines()}")
        time.sleep(_POLL)
    return children


def _store_sample(settings: Settings) -> None:
    """Store the sample events, as if clients had sent them in the last week. A failure is only shown."""
    try:
        with closing(Service(Target(_base_url(settings), os.environ.get("EVENTSVC_KEY", "")))) as service:
            if sample_events.are_there(service):
                _say("the sample events are there already")
                return
        events = sample_events.make()
        lines = b"".join(orjson.dumps(event | {"createdAt": event["occurredAt"]}) + b"\n" for event in events)
        with closing(connect(settings.database_url.get_secret_value(), application_name="eventsvc dev")) as connection:
            report = import_events(connection, io.BytesIO(lines), lines[:100].decode(), lambda _lines: None)
        _say(f"{report.stored:,} {sample_events.STORED}")
    except (ServiceError, LogError) as exc:
        _say(f"the sample events are not stored: {exc}")


def _watch(settings: Settings, servers: Sequence[Server], children: Sequence[_Child]) -> None:
    """Watch the processes until Ctrl-C, with a status line on a terminal."""
    # PostgreSQL is not among them, because it does not answer while all its connections are in use.
    asked = [one for one in servers if one.name == elasticsearch.NAME and not isinstance(one, Given)]
    logs = [LogTail(child.name, child.log) for child in children]
    database, indexed = settings.database_url.get_secret_value(), bool(settings.elasticsearch_url)
    with StatusLine(sys.stderr, f"{_base_url(settings)}/", database, indexed=indexed) as line:
        watch([*servers, *children], logs, line.say, asked=asked, each_round=line.refresh)


def _base_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  (compared, not bound)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def api_is_ready(settings: Settings) -> bool:
    """Tell whether the API of these settings can store events."""
    # The certificate may name another host. The request has no secret, and the API is a process of ours.
    context = ssl._create_unverified_context() if settings.tls_cert else None  # noqa: S323, SLF001
    try:
        with urllib.request.urlopen(f"{_base_url(settings)}/readyz", timeout=5, context=context):  # noqa: S310  (ours)
            return True
    except OSError:
        return False


def _ready_line(settings: Settings, folder: Path) -> str:
    url = f"{_base_url(settings)}/event"
    keyed = has_key(settings)
    who = "with a key" if keyed else "open to everybody who reaches it: there is no key"
    header = '-H "Authorization: Bearer ev_…" ' if keyed else ""
    example = f"curl {header}-G {url} --data-urlencode \"q=message ct 'buyer'\""
    return f"ready: {url}   ({who})   try: {example}   (logs: {folder / 'logs'})"
