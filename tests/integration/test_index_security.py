"""An Elasticsearch with security on: TLS, our own authority, users of the file realm; the API key as a header."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from eventsvc.admin.secrets import make_secrets
from eventsvc.dev import distribution
from eventsvc.dev.elasticsearch import LocalElasticsearch
from eventsvc.dev.java import find_java
from eventsvc.dev.server import wait_until_ready
from eventsvc.errors import IndexUnavailable, SetupError
from eventsvc.index import client as index_client
from eventsvc.index.client import translate_errors
from eventsvc.settings import Settings, load

_SECURITY = """
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.key: eventsvc/node.key
xpack.security.http.ssl.certificate: eventsvc/node.crt
xpack.security.transport.ssl.enabled: true
xpack.security.transport.ssl.key: eventsvc/node.key
xpack.security.transport.ssl.certificate: eventsvc/node.crt
xpack.security.transport.ssl.certificate_authorities: eventsvc/ca.crt
"""


class SecuredElasticsearch(LocalElasticsearch):
    """Configured as docker-compose.yml does it, with the secrets that `eventsvc admin secrets` makes."""

    def __init__(self, folder: Path, secrets: Path, **arguments: Any) -> None:
        super().__init__(folder, **arguments)
        self.secrets = secrets

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    def _configure(self) -> None:
        super()._configure()
        config = self._folder / "config"
        settings = (config / "elasticsearch.yml").read_text().replace("xpack.security.enabled: false", _SECURITY)
        (config / "elasticsearch.yml").write_text(settings)
        shutil.copytree(self.secrets / "elasticsearch", config / "eventsvc", dirs_exist_ok=True)
        for name in ("users", "users_roles", "roles.yml"):
            shutil.copy(self.secrets / "elasticsearch" / name, config)

    def ready(self) -> bool:
        context = ssl.create_default_context(cafile=self.secrets / "eventsvc" / "ca.crt")
        with suppress(OSError):
            try:
                urllib.request.urlopen(f"{self.url}/_cluster/health", timeout=2, context=context)
            except urllib.error.HTTPError as exc:
                return self.alive() and exc.code == 401
        return False


pytestmark = pytest.mark.timeout(900)  # the first test waits for the server, which may have to be fetched


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, server_folder: Path) -> Iterator[SecuredElasticsearch]:
    secrets = tmp_path_factory.mktemp("secrets")
    make_secrets(secrets)
    java = find_java()
    assert java, "these tests need Java 21 or newer: Elasticsearch is run with TLS as a local process"
    version = distribution.version_for(java)
    program = distribution.find_distribution(version) or distribution.fetch_distribution(print, version=version)
    folder = server_folder / "secured"
    log = server_folder / "secured.log"
    server = SecuredElasticsearch(folder, secrets, log=log, distribution=program, java=java)
    try:
        server.start()
        wait_until_ready(server, timeout=240)
        yield server
    finally:
        server.stop()


@pytest.fixture
def secured_settings(secured: SecuredElasticsearch) -> Callable[..., Settings]:
    """Settings as the compose file gives them: the secrets come from files."""

    def settings(**changes: str) -> Settings:
        environment = {
            "EVENTSVC_ELASTICSEARCH_URL": secured.url,
            "EVENTSVC_ELASTICSEARCH_USER": "eventsvc",
            "EVENTSVC_ELASTICSEARCH_PASSWORD_FILE": str(secured.secrets / "eventsvc" / "elasticsearch_password"),
            "EVENTSVC_ELASTICSEARCH_CA": str(secured.secrets / "eventsvc" / "ca.crt"),
        }
        return load(environment, **changes)

    return settings


def _ask(settings: Settings) -> Any:
    with translate_errors(), index_client.connect(settings, timeout=10) as client:
        return client.perform_request("GET", "/_security/_authenticate", headers={"accept": "application/json"}).body


async def _ask_async(settings: Settings) -> Any:
    with translate_errors():
        async with index_client.connect_async(settings) as client:
            return (await client.cluster.health()).body


def test_certificate_user_and_password_let_us_in(secured_settings: Callable[..., Settings]) -> None:
    """Both clients, the one for threads and the one for searches."""
    assert _ask(secured_settings())["roles"] == ["eventsvc"]
    assert asyncio.run(_ask_async(secured_settings()))["status"] in ("green", "yellow")


def test_the_whole_way_works_with_security_on(
    secured_settings: Callable[..., Settings], log: Any, run_indexer: Callable[..., Any]
) -> None:
    """The indexer makes its index, fills and refreshes it with no more rights than its role gives."""
    names = ("url", "user", "password", "ca")
    secure = secured_settings()
    changes = {f"elasticsearch_{name}": getattr(secure, f"elasticsearch_{name}") for name in names}
    with run_indexer(index_prefix="events", **changes):
        log.insert(100)
        log.wait_visible()
    with index_client.connect(secure) as client:
        assert client.count(index="events").body["count"] == 100


def test_rights_end_at_our_indexes(secured_settings: Callable[..., Settings]) -> None:
    """Other people's indexes are none of our business."""
    refused = pytest.raises(IndexUnavailable, match="403")
    with index_client.connect(secured_settings()) as client, refused, translate_errors():
        client.indices.create(index="somebody-elses")


@pytest.mark.parametrize(
    ("user", "name", "roles"),
    [
        ("kibana_server", "kibana/elasticsearch_password", {"kibana_system"}),
        ("events", "kibana-objects/password", {"kibana_admin", "events_reader"}),
    ],
)
def test_kibanas_users(
    secured: SecuredElasticsearch, secured_settings: Callable[..., Settings], user: str, name: str, roles: set[str]
) -> None:
    """Kibana itself, and the people who use it, have the roles that Elasticsearch keeps for them."""
    password = (secured.secrets / name).read_text()
    answer = _ask(secured_settings(elasticsearch_user=user, elasticsearch_password=password))
    assert set(answer["roles"]) == roles


def test_people_can_read_and_not_write(
    secured: SecuredElasticsearch, secured_settings: Callable[..., Settings]
) -> None:
    """Whoever may look at events in Kibana can change none."""
    password = (secured.secrets / "kibana-objects" / "password").read_text()
    settings = secured_settings(elasticsearch_user="events", elasticsearch_password=password)
    with index_client.connect(settings) as client:
        client.search(index="events*", body={"size": 1})
        with pytest.raises(IndexUnavailable, match="403"), translate_errors():
            client.index(index="events-v2-2026.11-write", document={})


def test_a_wrong_password_is_refused_and_not_shown(secured_settings: Callable[..., Settings]) -> None:
    """The error says 401, and nothing of what was sent."""
    with pytest.raises(IndexUnavailable, match="401") as caught:
        _ask(secured_settings(elasticsearch_password="certainly-wrong"))
    assert "certainly-wrong" not in str(caught.value)


def test_an_unknown_authority_is_refused(secured_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Somebody else's certificate, or the system's own authorities, do not do: nothing is sent to a stranger."""
    make_secrets(tmp_path)
    other = load({}, **_connection(secured_settings()), elasticsearch_ca=str(tmp_path / "eventsvc" / "ca.crt"))
    for settings in (other, load({}, **_connection(secured_settings()))):
        with pytest.raises(IndexUnavailable, match="cannot be reached"):
            _ask(settings)


def _connection(settings: Settings) -> dict[str, str]:
    return {
        "elasticsearch_url": settings.elasticsearch_url,
        "elasticsearch_user": settings.elasticsearch_user,
        "elasticsearch_password": settings.elasticsearch_password.get_secret_value(),
    }


def test_a_missing_authority_file_is_a_plain_error(secured_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """The file is named wrongly: said at once, not at the first search."""
    with pytest.raises(SetupError, match="cannot be set up"):
        index_client.connect(secured_settings(elasticsearch_ca=str(tmp_path / "missing.crt")))


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """A second run changes nothing; a file that is lost is made again from the others."""
    assert make_secrets(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert make_secrets(tmp_path) == []
    (tmp_path / "elasticsearch" / "users").unlink()
    assert make_secrets(tmp_path) == ["elasticsearch/users"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path.stat().st_mode & 0o777 for path in before} == {0o400}


def test_an_api_key_is_sent_as_such() -> None:
    """It wins over user and password. (The core distribution of Elasticsearch cannot make one to try.)"""
    seen: list[str | None] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = load(
            {},
            elasticsearch_url=f"http://127.0.0.1:{server.server_port}",
            elasticsearch_api_key="bmFtZTprZXk=",
            elasticsearch_user="nobody",
            elasticsearch_password="nothing",
        )
        try:
            _ask(settings)
            asyncio.run(_ask_async(settings))
        finally:
            server.shutdown()
            thread.join()
    assert seen == ["ApiKey bmFtZTprZXk="] * 2
