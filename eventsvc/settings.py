"""Read the EVENTSVC_* environment variables into one frozen Settings, once, at the start of a process.

Every variable can also be given as ``EVENTSVC_<NAME>_FILE``, the path of a file that holds the value (for secrets).
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
_OF_COMMANDS = {"url", "key", "data", "email"}  # the commands for people read these; the service does not
_MISSPELT = 0.7  # a name at least so similar to a setting counts as misspelt; other names may belong to other programs


class Settings(BaseSettings):
    """All settings with their defaults. The table of docs/settings.md is generated from this class."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr = Field(
        SecretStr("postgresql://localhost/eventsvc"), description="PostgreSQL: a libpq URI or connection string"
    )
    replica_urls: str = Field(
        "", description="read replicas of PostgreSQL: connection strings, separated by spaces or commas"
    )
    database_pool: int = Field(4, ge=1, le=100, description="connections for reading, per process")
    elasticsearch_url: str = Field(
        "", description="Elasticsearch: one URL, or several separated by commas; empty: search in PostgreSQL"
    )
    elasticsearch_user: str = Field("", description="user name, with elasticsearch_password")
    elasticsearch_password: SecretStr = Field(SecretStr(""), description="password of elasticsearch_user")
    elasticsearch_api_key: SecretStr = Field(SecretStr(""), description="API key, instead of user and password")
    elasticsearch_ca: Path | None = Field(None, description="PEM file of the authority that signed the certificate")
    elasticsearch_timeout: float = Field(10.0, gt=0, description="seconds until a search goes to PostgreSQL instead")
    index_prefix: str = Field(
        "events", pattern=r"^[a-z][a-z0-9_-]{0,99}$", description="names of indexes and alias start with it"
    )
    index_shards: int = Field(
        1,
        ge=1,
        le=1024,
        description="primary shards of each new index; `admin reindex` makes old months anew",
    )
    index_replicas: int = Field(0, ge=0, le=10, description="replicas of each index")
    index_metrics_port: int = Field(
        0, ge=0, le=65535, description="port on which `eventsvc index` serves its own metrics; 0: none"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    admin_key: SecretStr = Field(
        SecretStr(""), description="a key with every right, which `eventsvc admin migrate` stores"
    )
    metrics_key: SecretStr = Field(
        SecretStr(""), description="a key for /metrics alone, which `eventsvc admin migrate` stores"
    )
    exports: int = Field(4, ge=1, description="exports that one key may have under way, per process")
    address_rate: str = Field(
        "",
        pattern=r"^([1-9][0-9]{0,8}/[smh])?$",
        description="requests that may come from one address, such as 100/s or 1000/m, beside the rate of the key",
    )
    audit: Literal["on", "values", "off"] = Field(
        "on", description="note what keys are used for, as events of the component eventsvc.audit; values: queries too"
    )
    tls_cert: Path | None = Field(None, description="PEM file of the certificate: serve HTTPS; read again on SIGHUP")
    tls_key: Path | None = Field(None, description="PEM file of its private key")
    open: bool = Field(False, description="let everybody in, also from other machines, as long as no key was ever made")
    workers: int = Field(2, ge=1, le=256, description="API processes")
    connections: int = Field(1000, ge=16, description="connections of clients at a time, per process; more get a 503")
    head_seconds: float = Field(20.0, gt=0, description="seconds in which the head of a request must come")
    body_seconds: float = Field(30.0, gt=0, description="seconds in which a body must come, and 1 for each body_rate")
    body_rate: int = Field(8192, ge=1, description="bytes of a body that earn its client another second")
    cors_origins: str = Field(
        "", description="origins of pages that may use the API, separated by spaces or commas; * for any; empty: none"
    )
    trusted_proxies: str = Field(
        "127.0.0.1 ::1", description="addresses and networks whose X-Forwarded-Prefix, -Proto and -For are believed"
    )
    search_timeout: float = Field(10.0, gt=0, description="seconds a search in PostgreSQL may take")
    page_bytes: int = Field(4 * 1024**2, ge=64 * 1024, description="text of the events on one page, in bytes")
    search_cache: int = Field(32, ge=0, le=4096, description="MiB of index answers kept, per process")
    write_queue: int = Field(10_000, ge=1, description="events that may wait to be written, per process")
    dev_servers: Literal["auto", "containers", "local"] = Field(
        "auto", description="how `eventsvc dev` runs servers; auto: containers if Docker answers, else local processes"
    )
    dev_heap: str = Field(
        "512m", pattern=r"^[0-9]+[kmgKMG]$", description="heap of the Elasticsearch that `eventsvc dev` starts"
    )
    dev_postgres_port: int = Field(
        0, ge=0, le=65535, description="port of the PostgreSQL that `eventsvc dev` starts; 0: any that is free"
    )
    dev_elasticsearch_port: int = Field(
        0, ge=0, le=65535, description="port of the Elasticsearch that `eventsvc dev` starts; 0: any that is free"
    )
    dev_maven_repository: str = Field(
        "https://repo.maven.apache.org/maven2",
        pattern="^(https?://.+)?$",
        description="where `eventsvc dev` gets Elasticsearch from when Maven is missing or fails; empty: nowhere",
    )
    body_bytes: int = Field(1024**2, ge=1024, description="largest body of one event")
    bulk_bytes: int = Field(64 * 1024**2, ge=1024, description="largest body of many events, packed or unpacked")
    bulk_events: int = Field(100_000, ge=1, description="most events in one request")
    bulk_seconds: float = Field(60.0, gt=0, description="longest that reading the events of one request may take")
    spool_bytes: int = Field(
        1024**3, ge=1024, description="bytes of bodies that may be under way, in temporary files, per process"
    )
    bulk_concurrency: int = Field(2, ge=1, le=32, description="bulk requests written at the same time, per process")
    log_format: Literal["console", "json"] = Field("console", description="form of our own log lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")

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
    """Read the settings as ``load`` does, but use a running development server if no database is named.

    Args:
        data: the development server's data folder; None for EVENTSVC_DATA or ``.eventsvc``.
        overrides: values from the command line, which win over the environment.

    Raises:
        SetupError: as in ``load``; or the folder was named, but no development server runs with it.
    """
    variable = f"{PREFIX}DATABASE_URL"
    if overrides.get("database_url") is not None or variable in os.environ or f"{variable}_FILE" in os.environ:
        return load(**overrides)
    return load(connection_file.read(data) | os.environ, **overrides)


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings; ``overrides`` (from the command line) win over the environment.

    Raises:
        SetupError: names every wrong value and every misspelt variable at once.
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
        # The value itself is left out: it may be a secret.
        wrong += [f"{PREFIX}{str(error['loc'][0]).upper()}: {error['msg']}" for error in exc.errors()]
    if wrong:
        raise SetupError("wrong settings:\n" + "\n".join(f"  {line}" for line in sorted(wrong)))
    return settings


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.0)
    return f"; the nearest one is {PREFIX}{close[0].upper()}" if close else ""
