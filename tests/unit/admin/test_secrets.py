"""What a deployment's first start makes: each secret for the one service that reads it."""

from __future__ import annotations

from pathlib import Path

from eventsvc.admin.setup import make_secrets


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
