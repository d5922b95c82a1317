"""AST → SQL: every value is a parameter, every pattern is escaped."""

from __future__ import annotations

import pytest

from eventsvc.query.parse import parse
from eventsvc.query.to_sql import find_routing, to_sql


def test_no_value_and_no_key_is_in_the_text() -> None:
    values = ["emailvalue", "idvalue", "needle", "keyname", "4711", "2018"]
    text, parameters = to_sql(
        parse(
            "email eq 'emailvalue' OR email in ('emailvalue') OR message ct 'needle' OR component sw 'needle'"
            " OR data.keyname eq 'needle' OR data.keyname in (4711, 'needle', null, true) OR data.keyname ct 'needle'"
            " OR data.keyname gt 4711 OR data.keyname lt 'needle' OR data.keyname exists OR createdAt gt '2018-1-1'",
            now=0,
        )
    )
    assert [value for value in values if value in text] == []
    assert text.count("%s") == len(parameters)
    assert text.replace("%s", "").count("%") == 0


@pytest.mark.parametrize(
    ("needle", "pattern"),
    [("%", "\\%"), ("_", "\\_"), ("\\\\", "\\\\"), ("\\\\%", "\\\\\\%"), ("a*?", "a*?"), ("ÀİẞÉ", "àissé")],
)
def test_patterns_are_escaped_and_folded(needle: str, pattern: str) -> None:
    expected = ("event_fold(message) LIKE %s", [f"%{pattern}%"])
    assert to_sql(parse(f"message ct '{needle}'", now=0)) == expected
    text, parameters = to_sql(parse(f"data.a sw '{needle}'", now=0))
    assert parameters[1:] == [f"{pattern}%"]
    assert "event_fold(value #>> '{}') LIKE %s" in text


def test_lists_are_one_parameter_and_can_use_an_index() -> None:
    one, other = "1b4e28ba-2fa1-41d2-883f-0016d3cca427", "1b4e28ba-2fa1-41d2-883f-0016d3cca428"
    assert to_sql(parse(f"id in ('{one}', '{other}')", now=0)) == ("id = ANY(%s::uuid[])", [[one, other]])
    assert to_sql(parse("createdAt eq '1970-1-1'", now=0)) == (
        "created_at >= %s::timestamptz AND created_at < %s::timestamptz",
        ["1970-01-01T00:00:00.000Z", "1970-01-02T00:00:00.000Z"],
    )


def test_a_path_is_read_with_each_dot_as_a_step_and_as_part_of_a_key() -> None:
    text, (paths,) = to_sql(parse("data.a.b.c exists", now=0))
    assert "jsonb_path_query(data, path)" in text
    assert [path.replace("[*]", "") for path in paths] == ['$."a"."b"."c"', '$."a"."b.c"', '$."a.b"."c"', '$."a.b.c"']
    assert all(path.count("[*]") > 20 for path in paths)


@pytest.mark.parametrize("path", ["a.b.c.d.e", "a.0.b", "a" + ".a" * 40])
def test_long_paths_and_places_are_left_to_a_function(path: str) -> None:
    text, values = to_sql(parse(f"data.{path} exists", now=0))
    assert "event_values(data, %s)" in text
    assert values == [path]


def test_keys_are_quoted_in_the_path() -> None:
    _, (paths,) = to_sql(parse(r"""data.'a"b'.'c\\d'.'$[*]'.'' exists""", now=0))
    assert paths[0].replace("[*]" * 17, "") == r'''$."a\"b"."c\\d"."$[*]".""'''


@pytest.mark.parametrize(
    ("query", "routing"),
    [
        ("component eq 'a'", {"component": "a"}),
        ("component eq 'a' AND message ct 'x' AND email eq 'b@c.d'", {"component": "a", "email": "b@c.d"}),
        ("component eq 'a' OR email eq 'b@c.d'", {}),
        ("NOT component eq 'a'", {}),
        ("component sw 'a' AND environment eq 'b' AND data.component eq 'c'", {}),
    ],
)
def test_the_routing_of_the_events_is_what_each_of_them_has(query: str, routing: dict[str, str]) -> None:
    assert find_routing(parse(query, now=0)) == routing
