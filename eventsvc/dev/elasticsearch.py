"""Run Elasticsearch's core distribution as a local process. The server writes only to the data folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from pathlib import Path

from eventsvc.dev.account import give, server_uid
from eventsvc.dev.java import lacks_modules
from eventsvc.dev.process import LocalServer, Process
from eventsvc.dev.server import free_port

NAME = "Elasticsearch"
_PING_SECONDS = 2.0
_VECTORS = "jdk.incubator.vector"  # makes searches of vectors faster, which the index does not have


def answers(url: str) -> bool:
    """Tell whether the Elasticsearch at ``url`` can be searched. Only the first of several URLs is asked.

    The request is for the health of the cluster, because the core distribution does not have ``GET /``.
    """
    request = urllib.request.Request(f"{url.partition(',')[0].rstrip('/')}/_cluster/health")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_PING_SECONDS) as response:  # noqa: S310
            return json.load(response)["status"] in ("green", "yellow")
    except urllib.error.HTTPError as exc:
        return exc.code in (401, 403)  # the server is there, and asks for credentials
    except (OSError, ValueError, KeyError):
        return False


class LocalElasticsearch(LocalServer):
    """A node with a folder of its own, without passwords, which listens on the loopback interface only."""

    def __init__(
        self,
        folder: Path,
        *,
        log: Path,
        distribution: Path,
        java: Path,
        heap: str = "512m",
        port: int = 0,
        nice: int = 0,
    ) -> None:
        """Prepare, without a start.

        Args:
            folder: the folder for configuration, data and temporary files; it is made if it is missing.
            log: the log file for the output of the server.
            distribution: the folder of the unpacked distribution, which nothing writes to.
            java: the home folder of a Java.
            heap: the size of the heap, as Java writes sizes.
            port: the port to listen on; 0: any free port.
            nice: the niceness of the server.
        """
        self._folder, self._distribution, self._java, self._heap = folder.absolute(), distribution, java, heap
        # The server ends by itself after its launcher, because its standard input is closed then.
        process = Process(NAME, log=log, death_signal=signal.SIGKILL, stop_timeout=30.0, nice=nice)
        super().__init__(process, answers, port=port)

    def start(self) -> None:
        """Write the configuration and start the server."""
        self._choose_port()
        uid = server_uid()
        for name in ("config/jvm.options.d", "data", "logs", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        give(self._folder, uid)
        program = str(self._distribution / "bin" / "elasticsearch")
        self._process.start([program], environment=self._environment(), folder=self._folder, uid=uid)

    def _configure(self) -> None:
        config, own = self._folder / "config", self._distribution / "config"
        settings = {
            "cluster.name": "eventsvc-dev",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self._port,
            "transport.port": free_port(),
            "path.data": str(self._folder / "data"),
            "path.logs": str(self._folder / "logs"),
            "xpack.security.enabled": False,
            # The disk of a developer is often nearly full, and then Elasticsearch would refuse new indexes.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }
        _write(
            config / "elasticsearch.yml", "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
        )
        _write(config / "log4j2.properties", _LOG4J)
        options = (own / "jvm.options").read_text().splitlines()
        unwanted = ["-Xlog:", "-XX:ErrorFile", "-XX:+HeapDump"]
        if lacks_modules(self._java, _VECTORS):
            unwanted.append(f"20-:--add-modules={_VECTORS}")
        kept = [line for line in options if not line.startswith(tuple(unwanted))]
        _write(config / "jvm.options", "\n".join([*kept, ""]))

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("ES_", "JAVA_", "_JAVA"))}
        return ours | {
            "ES_JAVA_HOME": str(self._java),
            "ES_PATH_CONF": str(self._folder / "config"),
            "ES_TMPDIR": str(self._folder / "tmp"),
            "ES_JAVA_OPTS": f"-Xms{self._heap} -Xmx{self._heap} -XX:-AlwaysPreTouch",
            "HOME": str(self._folder),
        }


_LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%consoleException%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def _write(path: Path, text: str) -> None:
    """Replace a file, which may belong to the user of the server."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    shutil.chown(path, path.parent.stat().st_uid, path.parent.stat().st_gid)
