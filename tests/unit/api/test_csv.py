"""The service and the page write CSV, and both defuse the same formulas."""

from __future__ import annotations

import json
import re
from pathlib import Path

from eventsvc.api.csv import DANGEROUS, defuse

EXPORT = Path(__file__).parents[3] / "eventsvc" / "page" / "src" / "export.js"


def test_the_page_defuses_what_the_service_defuses() -> None:
    source = EXPORT.read_text(encoding="utf-8")
    (literal,) = re.findall(r'^const DANGEROUS = ("[^"]*");$', source, re.MULTILINE)

    assert sorted(json.loads(literal)) == sorted(DANGEROUS)
    assert all(defuse(f"{first}1") == f"'{first}1" for first in DANGEROUS)
    assert "DANGEROUS.includes(text[0])" in source
