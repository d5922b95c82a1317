"""Write what a benchmark or a run of faults has measured into its page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path


def replace_block(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = document.read_text(encoding="utf-8")
    new = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.DOTALL)
    document.write_text(new, encoding="utf-8")
