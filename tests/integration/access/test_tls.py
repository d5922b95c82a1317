"""`eventsvc serve` with a certificate of its own."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventsvc.dev import run
from eventsvc.serve.healthcheck import api_is_ready
from eventsvc.settings import load


def _issue(folder: Path) -> None:
    """A new certificate in the place of the old one."""
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    names += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(["openssl", *new, *names, *map(str, files)], check=True, capture_output=True)


def _eventually(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_https_with_a_certificate_that_is_read_again(
    database: str, tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _issue(tmp_path)
    settings = {"EVENTSVC_TLS_CERT": str(tmp_path / "cert.pem"), "EVENTSVC_TLS_KEY": str(tmp_path / "key.pem")}
    environment = os.environ | settings | {"EVENTSVC_DATABASE_URL": database, "EVENTSVC_PORT": str(unused_port)}

    def shown() -> str:
        try:
            return ssl.get_server_certificate(("127.0.0.1", unused_port))
        except OSError:
            return ""

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "eventsvc", "serve"], env=environment, stderr=log)
    try:
        _eventually(lambda: shown() or process.poll() is not None)
        first = (tmp_path / "cert.pem").read_text()
        assert shown().strip() == first.strip(), (tmp_path / "log").read_text()
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with urllib.request.urlopen(f"https://localhost:{unused_port}/event", context=context, timeout=30) as answer:
            assert (answer.status, answer.headers["Server"]) == (200, None)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert run.api_is_ready(load(environment))  # what `eventsvc dev` waits for
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        assert api_is_ready(unused_port)
        _issue(tmp_path)
        process.send_signal(signal.SIGHUP)
        second = (tmp_path / "cert.pem").read_text().strip()
        assert second != first.strip()
        # The old workers accept connections beside the new ones until the new ones have started.
        _eventually(lambda: all(shown().strip() == second for _ in range(20)))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
