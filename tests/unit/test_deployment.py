"""The files of a deployment agree with the code and with each other."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from eventsvc.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
HA = (ROOT / "config" / "docker-compose.ha.yml").read_text()


def _pinned() -> dict[str, str]:
    text = (ROOT / "config" / "requirements.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_every_dependency_of_the_image_is_pinned() -> None:
    """What setup.cfg asks for is in config/requirements.txt, in a version that it allows."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['server']}".split("\n")
    wanted = [Requirement(line) for line in lines if line]
    assert {"typer", "falcon"} <= {requirement.name for requirement in wanted}
    pinned = _pinned()
    missing = [str(r) for r in wanted if not r.specifier.contains(pinned.get(r.name.lower().replace("_", "-"), "0"))]
    assert missing == [], "run make requirements"


def test_every_setting_is_in_the_example() -> None:
    """config/eventsvc.env.example lists every setting once, with its default and its description."""
    text = (ROOT / "config" / "eventsvc.env.example").read_text()
    names = re.findall(rf"^#{PREFIX}(\w+)=", text, re.MULTILINE)
    assert names == [name.upper() for name in Settings.model_fields]
    assert [f.description for f in Settings.model_fields.values() if f"# {f.description}\n" not in text] == []


def test_compose_file_sets_what_exists() -> None:
    """Every variable that it sets is a setting, or the file of one."""
    names = {name.lower() for name in re.findall(rf"{PREFIX}(\w+):", COMPOSE)}
    assert names
    assert {name.removesuffix("_file") for name in names} <= set(Settings.model_fields)


def test_nothing_is_published_to_the_world() -> None:
    """Every published port is on the loopback interface unless somebody asks for more."""
    published = re.findall(r"^      - \$\{\w+_PUBLISH:-(.+)\}:\d+$", COMPOSE, re.MULTILINE)
    assert len(published) == COMPOSE.count("\n    ports:\n") == 4
    assert all(address.startswith("127.0.0.1:") for address in published)


@pytest.mark.parametrize("image", re.findall(r"^  *image: (?!\$)(\S+)", COMPOSE, re.MULTILINE))
def test_images_are_pinned(image: str) -> None:
    """No image is whatever is newest today."""
    assert re.search(r":v?\d+(\.\d+)*$", image)


def test_secrets_are_never_in_the_environment() -> None:
    """Passwords come from files alone."""
    settings = re.findall(r"^\s+(\w*PASSWORD\w*):", COMPOSE + HA, re.MULTILINE)
    assert settings
    assert all(name.endswith("_FILE") for name in settings)


def test_kibanas_passwords_and_the_first_keys_are_in_no_volume_of_the_service() -> None:
    """API replicas and indexers mount their own secrets alone. Only `migrate` has the first keys beside them."""
    mounts = re.findall(r"^ *- (\S+)-secrets:(\S+)$", COMPOSE, re.MULTILINE)
    at_work = sorted(volume for volume, place in mounts if not place.startswith("/secrets/"))
    assert at_work.count("kibana-objects") == at_work.count("kibana") == at_work.count("keys") == 1
    assert at_work.count("eventsvc") == 2
    migrate = COMPOSE.partition("\n  migrate:")[2].partition("\n\n")[0]
    assert "keys-secrets:/run/keys:ro" in migrate
    assert "eventsvc-secrets:/run/eventsvc:ro" in migrate


def test_with_tls_nginx_is_reached_by_https_alone() -> None:
    """The compose file for TLS replaces the ports, and the file of the address to listen on."""
    tls = (ROOT / "config" / "docker-compose.tls.yml").read_text()
    assert "ports: !override\n" in tls
    assert re.findall(r"^      - (\S+):(\d+)$", tls, re.MULTILINE) == [("${API_PUBLISH:-127.0.0.1:8443}", "8443")]
    assert "./config/nginx/listen-tls.conf:/etc/nginx/listen.conf:ro" in tls
    assert "./config/nginx/listen.conf:/etc/nginx/listen.conf:ro" in COMPOSE


def test_three_servers_of_the_log_have_one_list_of_names() -> None:
    """The address of the log names each server; each server is known to the others by a name of its own network."""
    (hosts,) = re.findall(r'--database-hosts, "(.+)"\]', HA)
    assert re.findall(r"PATRONI_NAME: (\S+)", HA) == hosts.split(",")
    assert re.findall(r"PATRONI_POSTGRESQL_CONNECT_ADDRESS: (\S+)", HA) == [
        f"{h}.database:5432" for h in hosts.split(",")
    ]
    assert re.findall(r"aliases: \[(\S+)\]", HA) == [f"{host}.database" for host in hosts.split(",")]


def test_etcd_is_reached_by_the_servers_of_the_log_alone() -> None:
    """The configuration of Patroni names every etcd; nothing of this file is published."""
    etcds = re.findall(r"ETCD_NAME: (\S+)", HA)
    patroni = (ROOT / "config" / "patroni" / "patroni.yml").read_text()
    assert f"hosts: [{', '.join(f'{etcd}:2379' for etcd in etcds)}]" in patroni
    assert "ports:" not in HA
    assert "networks: [database]" in HA
    assert "internal: true" in HA


def test_patroni_is_pinned_with_hashes() -> None:
    """With all that it needs: pip refuses a package without a hash."""
    packages = re.split(r"\n(?=\S)", (ROOT / "config" / "patroni" / "requirements.txt").read_text().strip())[1:]
    assert {"patroni", "python-etcd", "psycopg"} <= {package.split("==")[0] for package in packages}
    assert all("--hash=sha256:" in package for package in packages)
