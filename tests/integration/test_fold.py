"""Case folding is the same in Python and in PostgreSQL, for every code point there is."""

from __future__ import annotations

import psycopg2.extensions

from eventsvc.text.fold import fold

_EVERY_POINT = """
    SELECT point, event_fold(chr(point)), event_fold(chr(point) || chr(769))
    FROM generate_series(1, 1114111) AS point WHERE point NOT BETWEEN 55296 AND 57343
"""


def test_every_code_point_folds_alike(connection: psycopg2.extensions.connection) -> None:
    """Alone, and beside a character that sends Python the other way through ``fold``."""
    with connection.cursor() as cursor:
        cursor.execute(_EVERY_POINT)
        wrong = [
            hex(point)
            for point, lower, in_company in cursor
            if fold(chr(point)) != lower or fold(chr(point) + "\u0301") != in_company
        ]
    assert wrong == []


def test_neighbours_do_not_matter(connection: psycopg2.extensions.connection) -> None:
    """No final sigma, no combining dot: folding looks at one code point at a time."""
    texts = ["ΟΔΟΣ ΟΔΟΣ.", "I\u0307 i\u0307 J\u0307", "ǄǅǆŉŐ", "STRASSE Straße", "ΑΣ\u0301Σ"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_fold(text) FROM unnest(%s) AS text", (texts,))
        assert [fold(text) for text in texts] == [lower for (lower,) in cursor]
