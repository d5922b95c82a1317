"""Read the environment variables EVENTSVC_* into one frozen Settings, once, at the start of a process.

Each variable has a second form for secrets: ``EVENTSVC_<NAME>_FILE`` is the path of a file that holds the value.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from eventsvc import connection_file
from eventsvc.errors import SetupError

PREFIX = "EVENTSVC_"
_OF_COMMANDS = {"url", "key", "data", "email"}  # only the commands for people read these variables
_MISSPELT = 0.7  # a name of at least this similarity is a misspelt setting; other names may belong to other programs


class Settings(BaseSettings):
    """All settings with their defaults. `make docs` writes the table of docs/settings.md from this class."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr = Field(
        SecretStr("postgresql://localhost/eventsvc"), description="PostgreSQL: a libpq URI or connection string"
    )
    replica_urls: str = Field(
        "", description="read replicas of PostgreSQL: connection strings, separated by spaces or commas"
    )
    database_pool: int = Field(4, ge=1, le=100, description="PostgreSQL connections for reading, in each process")
    elasticsearch_url: str = Field(
        "", description="Elasticsearch: one URL, or several separated by commas; empty: search in PostgreSQL"
    )
    elasticsearch_user: str = Field("", description="user name for Elasticsearch")
    elasticsearch_password: SecretStr = Field(SecretStr(""), description="password of this user")
    elasticsearch_api_key: SecretStr = Field(
        SecretStr(""), description="API key for Elasticsearch, instead of user and password"
    )
    elasticsearch_ca: Path | None = Field(
        None, description="PEM file of the authority that signed Elasticsearch's certificate"
    )
    elasticsearch_timeout: float = Field(
        10.0, gt=0, description="seconds that a search waits for Elasticsearch before PostgreSQL answers instead"
    )
    index_prefix: str = Field(
        "events",
        pattern=r"^[a-z][a-z0-9_-]{0,99}$",
        description="beginning of the names of the indexes, and name of their alias",
    )
    index_shards: int = Field(
        1,
        ge=1,
        le=1024,
        description="primary shards of each new index; `admin reindex` builds old indexes again",
    )
    index_replicas: int = Field(0, ge=0, le=10, description="replicas of each index")
    index_metrics_port: int = Field(
        0, ge=0, le=65535, description="port on which `eventsvc index` serves its metrics; 0: none"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    admin_key: SecretStr = Field(
        SecretStr(""), description="API key with every right, which `eventsvc admin migrate` stores"
    )
    metrics_key: SecretStr = Field(
        SecretStr(""), description="API key with the right metrics only, which `eventsvc admin migrate` stores"
    )
    exports: int = Field(4, ge=1, description="exports that a key may run at the same time, in each process")
    address_rate: str = Field(
        "",
        pattern=r"^([1-9][0-9]{0,8}/[smh])?$",
        description="most requests from an address, such as 100/s, in addition to the rate of a key; empty: no limit",
    )
    audit: Literal["on", "values", "off"] = Field(
        "on", description="record the use of keys as events of the component eventsvc.audit; values: record queries too"
    )
    tls_cert: Path | None = Field(
        None, description="PEM file of the certificate, to serve HTTPS; SIGHUP reads the file again"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    open: bool = Field(
        False, description="accept requests of everybody, also from other machines, until the first key is made"
    )
    workers: int = Field(2, ge=1, le=256, description="API processes")
    connections: int = Field(
        1000, ge=16, description="client connections at the same time, in each process; further connections get a 503"
    )
    head_seconds: float = Field(20.0, gt=0, description="seconds in which the head of a request must arrive")
    body_seconds: float = Field(
        30.0, gt=0, description="seconds in which the body of a request must arrive; each body_rate bytes add a second"
    )
    body_rate: int = Field(8192, ge=1, description="bytes of a body that add a second to body_seconds")
    answer_seconds: float = Field(
        300.0, gt=0, description="seconds after which a client that reads nothing of its answer is cut off"
    )
    unread_bytes: int = Field(
        256 * 1024**2,
        ge=1024**2,
        description="bytes of answers that may wait for slow clients, in each process; the slowest are cut off",
    )
    cors_origins: str = Field(
        "", description="CORS: origins whose pages may use the API, separated by spaces or commas; *: all; empty: none"
    )
    trusted_proxies: str = Field(
        "127.0.0.1 ::1",
        description="addresses and networks of proxies whose X-Forwarded-Prefix, -Proto and -For are used",
    )
    search_timeout: float = Field(10.0, gt=0, description="seconds that a search in PostgreSQL may take")
    page_bytes: int = Field(4 * 1024**2, ge=64 * 1024, description="bytes of text of the events on a page")
    search_cache: int = Field(
        32, ge=0, le=4096, description="MiB of Elasticsearch's answers in the cache, in each process"
    )
    write_queue: int = Field(10_000, ge=1, description="events that may wait for their transaction, in each process")
    dev_servers: Literal["auto", "containers", "local"] = Field(
        "auto", description="how `eventsvc dev` runs servers; auto: containers if Docker answers, else local processes"
    )
    dev_heap: str = Field(
        "512m", pattern=r"^[0-9]+[kmgKMG]$", description="heap of the Elasticsearch that `eventsvc dev` starts"
    )
    dev_postgres_port: int = Field(
        0, ge=0, le=65535, description="port of the PostgreSQL that `eventsvc dev` starts; 0: any free port"
    )
    dev_elasticsearch_port: int = Field(
        0, ge=0, le=65535, description="port of the Elasticsearch that `eventsvc dev` starts; 0: any free port"
    )
    dev_maven_repository: str = Field(
        "https://repo.maven.apache.org/maven2",
        pattern="^(https?://.+)?$",
        description="from where `eventsvc dev` downloads Elasticsearch if Maven is missing or fails; empty: nowhere",
    )
    body_bytes: int = Field(1024**2, ge=1024, description="largest body with one event, in bytes")
    bulk_bytes: int = Field(
        64 * 1024**2, ge=1024, description="largest body with several events, in bytes, compressed and decompressed"
    )
    bulk_events: int = Field(100_000, ge=1, description="most events in a request")
    bulk_seconds: float = Field(60.0, gt=0, description="seconds in which the events of a request must be read")
    spool_bytes: int = Field(
        1024**3, ge=1024, description="bytes of request bodies in temporary files, in each process"
    )
    bulk_concurrency: int = Field(
        2, ge=1, le=32, description="bulk requests that are stored at the same time, in each process"
    )
    log_format: Literal["console", "json"] = Field("console", description="form of the service's own log lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the framework's signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor alone: ``load`` reads the environment and reports unknown names."""
        return (init_settings,)

    def to_environment(self) -> dict[str, str]:
        """Give the environment variables with which a child process gets the same settings."""
        values = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                values[PREFIX + name.upper()] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return values


def find(data: str | None = None, **overrides: Any) -> Settings:
    """Read the settings as ``load`` does. If no database is named, use a running development server.

    Args:
        data: the data folder of the development server; None for EVENTSVC_DATA or ``.eventsvc``.
        overrides: values from the command line, which win over the environment.

    Raises:
        SetupError: as in ``load``; or ``data`` is given, and no development server runs with this folder.
    """
    variable = f"{PREFIX}DATABASE_URL"
    if overrides.get("database_url") is not None or variable in os.environ or f"{variable}_FILE" in os.environ:
        return load(**overrides)
    return load(connection_file.read(data) | os.environ, **overrides)


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. ``overrides`` are values from the command line, which win over the environment.

    Raises:
        SetupError: some values are wrong, or some names are misspelt. The text names all of them.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in _OF_COMMANDS:
            continue
        if name not in Settings.model_fields and name.removesuffix("_file") in Settings.model_fields:
            name = name.removesuffix("_file")
            try:
                text = Path(text).read_text(encoding="utf-8").rstrip("\r\n")  # noqa: PLW2901
            except (OSError, UnicodeDecodeError) as exc:
                wrong.append(f"{variable}: cannot read the file: {exc}")
                continue
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=_MISSPELT)
            if near:
                wrong.append(f"{variable}: no such setting (did you mean {PREFIX}{near[0].upper()}?)")
            else:
                print(f"eventsvc: {variable} is no setting and is left alone{_nearest(name)}", file=sys.stderr)  # noqa: T201
        else:
            values[name] = text
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        settings = Settings(**values)
    except ValidationError as exc:
        # The text does not quote the values, because a value may be a secret.
        wrong += [f"{PREFIX}{str(error['loc'][0]).upper()}: {error['msg']}" for error in exc.errors()]
    if wrong:
        raise SetupError("wrong settings:\n" + "\n".join(f"  {line}" for line in sorted(wrong)))
    return settings


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.0)
    return f"; the nearest one is {PREFIX}{close[0].upper()}" if close else ""
