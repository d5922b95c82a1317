"""The bundle is what the sources say, small, and served so that it is fetched once."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "eventsvc" / "page"
MOST = 200 * 1024  # bytes of everything that one visit fetches, packed


def test_the_bundle_is_made_from_the_sources(packages: None, tmp_path: Path) -> None:
    """Run ``make page`` when this fails."""
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=PAGE, check=True)

    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (PAGE / "dist").iterdir()}
    assert sorted(made) == sorted(committed)
    assert made == committed


def test_the_sources_keep_their_types(packages: None) -> None:
    found = subprocess.run(["npx", "--no-install", "tsc"], check=False, cwd=PAGE, capture_output=True, text=True)

    assert (0, "") == (found.returncode, found.stdout)


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))
    resolved = [package["resolved"] for package in lock["packages"].values() if "resolved" in package]

    assert all(url.startswith("https://registry.npmjs.org/") for url in resolved)


def test_files_are_small_packed_and_kept_for_ever(service: Any) -> None:
    page = requests.get(f"{service.url}/", timeout=20)
    names = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    sizes = [_packed_size(f"{service.url}/")]
    for name in names:
        answer = requests.get(f"{service.url}/{name}", timeout=20)
        assert re.search(r"-[A-Z0-9]{8}\.", name)
        assert "public, max-age=31536000, immutable" == answer.headers["Cache-Control"]
        assert "gzip" == answer.headers["Content-Encoding"]
        sizes.append(_packed_size(f"{service.url}/{name}"))

    assert len(names) == 2
    assert sum(sizes) <= MOST
    assert "no-cache" == page.headers["Cache-Control"]
    again = requests.get(f"{service.url}/", headers={"If-None-Match": page.headers["ETag"]}, timeout=20)
    assert (304, b"") == (again.status_code, again.content)


def _packed_size(url: str) -> int:
    answer = requests.get(url, stream=True, timeout=20)
    return len(answer.raw.read(decode_content=False))


def test_the_policy_lets_nothing_in(service: Any) -> None:
    policy = requests.get(f"{service.url}/", timeout=20).headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:", policy)


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2F..%2Fapp.py", "%2e%2e%2fbuild.mjs"])
def test_nothing_else_is_served(service: Any, name: str) -> None:
    assert 404 == requests.get(f"{service.url}/page/{name}", timeout=20).status_code


def test_a_client_that_cannot_unpack_gets_it_plain(service: Any) -> None:
    answer = requests.get(f"{service.url}/", headers={"Accept-Encoding": "identity"}, timeout=20)

    assert "Content-Encoding" not in answer.headers
    assert (PAGE / "dist" / "index.html").read_bytes() == answer.content
