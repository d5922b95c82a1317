"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsvc.connection_file import publish
from eventsvc.errors import SetupError
from eventsvc.settings import Settings, find, load


def test_what_is_not_set_has_its_default() -> None:
    assert load({}) == Settings.model_validate({})


def test_a_variable_sets_its_field_and_others_names_are_left_alone() -> None:
    settings = load({"EVENTSVC_PORT": "9000", "PORT": "1", "EVENTSVCX": "2"})
    assert settings.port == 9000


def test_an_option_of_the_command_line_wins_unless_it_was_not_given() -> None:
    settings = load({"EVENTSVC_PORT": "9000", "EVENTSVC_HOST": "::1"}, port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "::1")


def test_a_file_gives_a_secret_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass word \n")
    settings = load({"EVENTSVC_ELASTICSEARCH_PASSWORD_FILE": str(tmp_path / "password")})
    assert settings.elasticsearch_password.get_secret_value() == "pass word "


def test_a_secret_is_never_shown() -> None:
    settings = load({"EVENTSVC_DATABASE_URL": "postgresql://me:hunter2@db/x"})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_a_wrong_value_is_named_but_not_shown() -> None:
    with pytest.raises(SetupError) as caught:
        load({"EVENTSVC_PORT": "hunter2"})
    assert "EVENTSVC_PORT" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SetupError) as caught:
        load({"EVENTSVC_PROT": "1", "EVENTSVC_WORKERS": "0", "EVENTSVC_ELASTICSEARCH_CA_FILE": "/nowhere/at/all"})
    text = str(caught.value)
    assert "EVENTSVC_PROT: no such setting (did you mean EVENTSVC_PORT?)" in text
    assert "EVENTSVC_WORKERS" in text
    assert "EVENTSVC_ELASTICSEARCH_CA_FILE: cannot read the file" in text


@pytest.mark.parametrize("variable", ["EVENTSVC_CHECKOUT", "EVENTSVC_QQQQ"])
def test_a_variable_of_somebody_else_is_only_warned_about(variable: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load({variable: "1", "EVENTSVC_PORT": "9000"}).port == 9000
    said = capsys.readouterr().err
    assert said.startswith(f"eventsvc: {variable} is no setting and is left alone; the nearest one is EVENTSVC_")


@pytest.mark.parametrize("variable", ["EVENTSVC_URL", "EVENTSVC_KEY", "EVENTSVC_DATA", "EVENTSVC_EMAIL"])
def test_a_variable_of_the_commands_for_people_is_known(variable: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load({variable: "1"}) == Settings.model_validate({})
    assert capsys.readouterr().err == ""


def test_a_database_that_nobody_names_is_that_of_the_development_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"EVENTSVC_DATABASE_URL": "postgresql://dev/x", "EVENTSVC_INDEX_PREFIX": "dev", "EVENTSVC_URL": "http://d"}
    monkeypatch.setenv("EVENTSVC_INDEX_PREFIX", "mine")
    with publish(tmp_path, theirs):
        found = find(str(tmp_path))
        assert (found.database_url.get_secret_value(), found.index_prefix) == ("postgresql://dev/x", "mine")
        assert find(str(tmp_path), database_url="postgresql://option/x").index_prefix == "mine"
        monkeypatch.setenv("EVENTSVC_DATABASE_URL", "postgresql://mine/x")
        assert find(str(tmp_path)).database_url.get_secret_value() == "postgresql://mine/x"


def test_a_child_process_gets_the_very_same_settings() -> None:
    settings = load(
        {"EVENTSVC_PORT": "9000", "EVENTSVC_DATABASE_URL": "postgresql://me:hunter2@db/x", "EVENTSVC_INDEX_PREFIX": "x"}
    )
    assert load(settings.to_environment()) == settings


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
