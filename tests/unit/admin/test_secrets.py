"""What a deployment's first start makes: each secret for the one service that reads it."""

from __future__ import annotations

from pathlib import Path

from eventsvc.admin.secrets import make_secrets


def test_the_service_does_not_get_the_password_of_kibana(tmp_path: Path) -> None:
    """Not even where an earlier version has put it."""
    earlier = tmp_path / "eventsvc" / "kibana_password"
    earlier.parent.mkdir()
    earlier.write_text("made-before")
    made = make_secrets(tmp_path)
    password = tmp_path / "kibana-objects" / "password"
    assert (password.read_text(), earlier.exists()) == ("made-before", False)
    assert not [path for path in (tmp_path / "eventsvc").iterdir() if "kibana" in path.name]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in made} == {0o400}
    assert make_secrets(tmp_path) == []


def test_the_service_does_not_get_the_first_keys(tmp_path: Path) -> None:
    """Not even where an earlier version has put them; the keys stay the same."""
    earlier = tmp_path / "eventsvc" / "admin_key"
    earlier.parent.mkdir()
    earlier.write_text("made-before")
    make_secrets(tmp_path)
    assert ((tmp_path / "keys" / "admin_key").read_text(), earlier.exists()) == ("made-before", False)
    assert not [path for path in (tmp_path / "eventsvc").iterdir() if "key" in path.name]
    metrics = (tmp_path / "keys" / "metrics_key").read_text()
    assert (tmp_path / "prometheus" / "metrics_key").read_text() == metrics


def test_the_address_of_the_log_follows_the_hosts_and_the_password_stays(tmp_path: Path) -> None:
    """One server becomes three, which must not lock the service out."""
    make_secrets(tmp_path)
    one = (tmp_path / "eventsvc" / "database_url").read_text()
    assert make_secrets(tmp_path, "postgres,postgres-2,postgres-3") == ["eventsvc/database_url"]
    three = (tmp_path / "eventsvc" / "database_url").read_text()
    hosts = "postgres:5432,postgres-2:5432,postgres-3:5432"
    assert three == one.replace("postgres:5432", hosts) + "?target_session_attrs=read-write"
