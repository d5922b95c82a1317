"""Run the API under gunicorn (`eventsvc serve`), configured by our settings alone."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from eventsvc.access.limiter import Limiter
from eventsvc.access.without_keys import check_start
from eventsvc.errors import SetupError
from eventsvc.serve.memory import configure_allocator
from eventsvc.settings import Settings

_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  (gunicorn makes its file there without a name)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SetupError: the service cannot listen on the address, or may not start without a key.
    """
    check_address(settings.host, settings.port)
    check_start(settings)
    metrics = tempfile.mkdtemp(prefix="eventsvc-metrics-")
    # prometheus_client reads this variable when it is imported, so it is imported later.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    from eventsvc.telemetry import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    _raise_limit()
    configure_allocator()
    _Gunicorn(settings, Path(metrics)).run()


def _raise_limit() -> None:
    """Raise the limit of file descriptors as far as allowed, because each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def check_address(host: str, port: int) -> None:
    """Check that the service can listen on an address.

    Raises:
        SetupError: it cannot. The text says why.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        raise SetupError(f"cannot listen on {host} port {port}: {exc.strerror or exc}") from exc


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """Runs gunicorn without a command line and without configuration files. Each worker makes its own app."""

    def __init__(self, settings: Settings, metrics: Path) -> None:
        self.settings, self._metrics, self._limiter = settings, metrics, Limiter()
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def run(self) -> None:
        # PERF: workers inherit what the master has imported: they start in a tenth of the time and share its memory.
        import_module("eventsvc.app")
        from eventsvc.serve.worker import Arbiter

        Arbiter(self).run()

    def load(self) -> Any:
        from eventsvc.app import create_app

        return create_app(self.settings, self._limiter)

    def _options(self) -> dict[str, Any]:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return {
            "bind": f"{host}:{self.settings.port}",
            "workers": self.settings.workers,
            "certfile": str(self.settings.tls_cert) if self.settings.tls_cert else None,
            "keyfile": str(self.settings.tls_key) if self.settings.tls_key else None,
            "worker_class": "eventsvc.serve.worker.Worker",
            "worker_tmp_dir": str(_MEMORY_FOLDER) if _MEMORY_FOLDER.is_dir() else None,
            "preload_app": False,
            "keepalive": 75,  # longer than a balancer keeps idle connections
            "graceful_timeout": 15,
            "timeout": 60,
            "loglevel": self.settings.log_level,
            "logger_class": _Logger,
            "control_socket_disable": True,
            "proc_name": "eventsvc",
            "child_exit": self._forget_worker,
            "on_exit": self._clean_up,
        }

    @staticmethod
    def _forget_worker(_server: Any, worker: Any) -> None:
        """Remove the gauges of a dead worker; its counters stay in the sums."""
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]

    def _clean_up(self, _server: Any) -> None:
        shutil.rmtree(self._metrics, ignore_errors=True)


class _Logger(Logger):  # type: ignore[misc]
    """Passes gunicorn's log lines to our logging."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
