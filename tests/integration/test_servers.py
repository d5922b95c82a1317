"""The fixtures themselves."""

from __future__ import annotations

import json
import urllib.request

import psycopg2
import pytest

from eventsvc.log import schema


def test_a_database_is_migrated_and_empty(connection: psycopg2.extensions.connection) -> None:
    schema.check(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("_turn", [1, 2])
def test_each_test_has_a_database_of_its_own(connection: psycopg2.extensions.connection, _turn: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE only_here ()")


def test_an_index_prefix_can_be_used(elasticsearch_url: str, index_prefix: str) -> None:
    request = urllib.request.Request(f"{elasticsearch_url}/{index_prefix}-one", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["acknowledged"] is True
