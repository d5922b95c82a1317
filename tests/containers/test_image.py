"""The image: small, closed, and content with a read-only root."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.containers import stack as stacks


def _inspect(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(stacks.run("docker", "image", "inspect", image))
    return found[0]


def test_it_is_small(image: str) -> None:
    """We add less than 120 MB to the base."""
    ours, base = _inspect(image)["Size"] / 1e6, _inspect("python:3.13-slim")["Size"] / 1e6
    stacks.say(f"test-containers: image {ours:.0f} MB, base {base:.0f} MB, added {ours - base:.0f} MB")
    assert ours - base < 120


def test_it_says_what_it_is_and_how_to_treat_it(image: str) -> None:
    """Numeric user, exec form, health check, labels, SIGTERM."""
    config = _inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] + config["Cmd"] == ["eventsvc", "serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "eventsvc.serve.healthcheck"]
    assert config["StopSignal"] == "SIGTERM"
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert labels >= {"title", "description", "licenses", "version", "revision"}


def test_nothing_in_it_can_build_or_install(image: str) -> None:
    """No compiler, no headers, no pip in the environment that runs."""
    script = "command -v gcc cc make; ls /opt/venv/bin | grep -i pip; find / -xdev -name Python.h 2>/dev/null; true"
    assert stacks.run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", script) == ""


def test_it_runs_with_a_read_only_root(image: str) -> None:
    """Only /tmp and /dev/shm are written; SIGTERM ends it at once, with exit code 0."""
    options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    # A log that does not answer: the API comes up all the same, and says that it is not ready.
    address = "postgresql://nobody@127.0.0.1:1/none"
    container = stacks.run("docker", "run", "-d", *options, "-e", f"EVENTSVC_DATABASE_URL={address}", image).strip()
    try:
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/healthz').status)"
        command = ["docker", "exec", container, "python", "-c", ask]
        stacks.wait_for(lambda: stacks.run(*command, check=False).strip() == "200", 30, "GET /healthz")
        began = time.monotonic()
        stacks.run("docker", "stop", "-t", "30", container)
        assert time.monotonic() - began < 15
        assert stacks.run("docker", "inspect", "-f", "{{.State.ExitCode}}", container).strip() == "0"
    finally:
        stacks.run("docker", "rm", "-f", container, check=False)


def test_commands_are_part_of_it(image: str) -> None:
    """One image: the command picks serve, index or admin."""
    said = stacks.run("docker", "run", "--rm", "--read-only", image, "--help")
    assert all(command in said for command in ("serve", "index", "admin"))
