"""Make the passwords, keys and certificates of a deployment.

``make_secrets`` can run at every start, because it keeps existing files.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eventsvc.access.key_text import make_key
from eventsvc.errors import SetupError

# The owners of the files: the users of the official images and of our image (see Dockerfile).
_POSTGRES, _ELASTIC, _EVENTSVC, _PROMETHEUS = 999, 1000, 10001, 65534

_CERTIFICATE_DAYS = 3650
# All names of the nodes, inside the deployment and on its host.
_NODE_NAMES = (
    "DNS:elasticsearch,DNS:elasticsearch-2,DNS:elasticsearch-3,DNS:localhost,IP:127.0.0.1"  # as openssl wants them
)

_ROLES = """\
# The service: its own indexes, and the health of the cluster.
eventsvc:
  cluster: [monitor]
  indices:
    - names: ["events*"]
      privileges: [all]
# People in Kibana: they read events, and nothing that the indexer needs can be changed by them.
events_reader:
  indices:
    - names: ["events*"]
      privileges: [read, view_index_metadata]
"""
_USERS_ROLES = "eventsvc:eventsvc\nkibana_system:kibana_server\nkibana_admin:events\nevents_reader:events\n"


def make_secrets(folder: Path, database_hosts: str = "postgres") -> list[str]:
    """Make missing passwords and certificates, in one subfolder for each service that reads them.

    If root runs this, the files belong to the users of the images. Their mode is 0400, as Elasticsearch demands.

    Args:
        folder: the folder of the subfolders ``postgres``, ``elasticsearch``, ``kibana``, ``kibana-objects``,
            ``prometheus`` and ``eventsvc``.
        database_hosts: the hosts of PostgreSQL, separated by commas. Of several hosts, the service uses the one that
            takes writes.

    Returns:
        The names of new or changed files, relative to ``folder``.

    Raises:
        SetupError: a file cannot be written, or there is no ``openssl``.
    """
    store = _Store(folder, made=[])
    try:
        _make_passwords(store, database_hosts)
        _make_keys(store)
        _make_certificates(store)
    except OSError as exc:
        raise SetupError(f"cannot write secrets below {folder}: {exc}") from exc
    return store.made


def _make_passwords(store: _Store, database_hosts: str) -> None:
    database = store.secret("postgres/password", _POSTGRES)
    addresses = ",".join(f"{host}:5432" for host in database_hosts.split(","))
    choice = "?target_session_attrs=read-write" if "," in database_hosts else ""
    store.put("eventsvc/database_url", _EVENTSVC, f"postgresql://eventsvc:{database}@{addresses}/eventsvc{choice}")
    service = store.secret("eventsvc/elasticsearch_password", _EVENTSVC)
    kibana = store.secret("kibana/elasticsearch_password", _ELASTIC)
    store.move("eventsvc/kibana_password", "kibana-objects/password", _EVENTSVC)
    people = store.secret("kibana-objects/password", _EVENTSVC)
    store.put("elasticsearch/kibana_password", _ELASTIC, people)  # where people find it
    store.secret("kibana/encryption_key", _ELASTIC)
    store.secret("elasticsearch/elastic_password", _ELASTIC)
    # Elasticsearch's file realm has three users with as few rights as possible. Nobody uses `elastic`, which has all
    # rights. (`kibana` is the name of a built-in user.)
    passwords = {"eventsvc": service, "kibana_server": kibana, "events": people}
    users = "".join(f"{name}:{_hash(password)}\n" for name, password in passwords.items())
    store.put("elasticsearch/users", _ELASTIC, users)
    store.put("elasticsearch/users_roles", _ELASTIC, _USERS_ROLES)
    store.put("elasticsearch/roles.yml", _ELASTIC, _ROLES)


def _make_keys(store: _Store) -> None:
    """Make the first API keys, which only `eventsvc admin migrate` reads: one for people, and one for Prometheus."""
    for name in ("admin_key", "metrics_key"):
        store.move(f"eventsvc/{name}", f"keys/{name}", _EVENTSVC)
        store.secret(f"keys/{name}", _EVENTSVC, make_key)
    store.put("prometheus/metrics_key", _PROMETHEUS, store.get("keys/metrics_key"))


def _make_certificates(store: _Store) -> None:
    """Make an authority and one certificate for all nodes. The authority's key is not kept."""
    if not store.has("elasticsearch/node.key"):
        with tempfile.TemporaryDirectory() as scratch:
            pem = _issue(Path(scratch))
        for name in ("ca.crt", "node.crt", "node.key"):
            store.put(f"elasticsearch/{name}", _ELASTIC, pem[name])
    authority = store.get("elasticsearch/ca.crt")
    store.put("eventsvc/ca.crt", _EVENTSVC, authority)
    store.put("kibana/ca.crt", _ELASTIC, authority)


@dataclass(frozen=True, slots=True)
class _Store:
    """Files below one folder, each owned by the user that reads it."""

    folder: Path
    made: list[str]

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def get(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="ascii")

    def secret(self, name: str, owner: int, make: Callable[[], str] = secrets.token_urlsafe) -> str:
        """Read the secret of this name; if there is none, make one of 256 random bits."""
        if not self.has(name):
            self.put(name, owner, make())
        return self.get(name)

    def move(self, old: str, new: str, owner: int) -> None:
        """Move a secret of an earlier version to its new place."""
        if self.has(old):
            self.put(new, owner, self.get(old))
            (self.folder / old).unlink()

    def put(self, name: str, owner: int, text: str) -> None:
        """Write a file atomically, unless it holds this text already."""
        path = self.folder / name
        if self.has(name) and self.get(name) == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            scratch.unlink()
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
        if os.geteuid() == 0:
            os.chown(scratch, owner, 0 if owner == _ELASTIC else owner)
        scratch.rename(path)
        self.made.append(name)


def _hash(password: str) -> str:
    """Hash a password for Elasticsearch's file realm, in Elasticsearch's form of PBKDF2.

    The salt is derived from the password, so that a second run gives the same file. This is safe for a password of 256
    random bits, because nobody can have a table of such passwords.
    """
    rounds = 10_000
    salt = hashlib.sha256(b"eventsvc" + password.encode()).digest()
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, dklen=32)
    return f"{{PBKDF2}}{rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _issue(folder: Path) -> dict[str, str]:
    """Issue the authority, the certificate and its key, in PEM."""
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    new += ["-days", str(_CERTIFICATE_DAYS), "-batch"]
    # From version 3.13 on, Python refuses an authority without the key usage for signing (RFC 5280, 4.2.1.3).
    signs = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _openssl(folder, *new, *signs, "-subj", "/CN=eventsvc authority", "-keyout", "ca.key", "-out", "ca.crt")
    serves = ["-addext", f"subjectAltName={_NODE_NAMES}", "-addext", "basicConstraints=critical,CA:FALSE"]
    serves += ["-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    _openssl(
        folder,
        *[*new, *serves, "-CA", "ca.crt", "-CAkey", "ca.key", "-subj", "/CN=elasticsearch"],
        *["-keyout", "node.key", "-out", "node.crt"],
    )
    return {name: (folder / name).read_text(encoding="ascii") for name in ("ca.crt", "node.crt", "node.key")}


def _openssl(folder: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError as exc:
        raise SetupError("certificates need the program `openssl` (Debian: apt-get install openssl)") from exc
    if done.returncode != 0:
        raise SetupError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
