"""The health listener: ``/livez``, ``/readyz`` and ``/metrics``, from a thread of its own.

A process whose event loop is blocked still answers, and no answer waits for the database: the
readiness goes by what the manager remembers.

    manager = TaskManager("sqlite:///tasks.db", telemetry=telemetry)
    with serve_health(manager, metrics=reader):  # around the manager, so that its drain is seen
        async with manager:
            ...
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qs

from tapescope.errors import CannotListen
from tapescope.manager import Check
from tapescope.store.validation import check_whole
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from tapescope.http._server import HealthServer
    from tapescope.manager import TaskManager

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "Check",
    "HealthApp",
    "HealthListener",
    "serve_health",
]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9464
"""The port that OpenTelemetry's Prometheus exporters listen on."""

_log = Logger("tapescope")

Checks = Callable[[], Sequence[Check]]


def serve_health(
    manager: TaskManager,
    *,
    metrics: WSGIApplication | None = None,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
) -> HealthListener:
    """A listener for this manager's health, and for ``metrics``, a ``PrometheusReader``.

    Enter it with ``with``, around the manager's own ``async with``: so it answers during the drain,
    too. Port 0 takes a free port, which is then in ``port``. Requests need no password: name
    another ``host`` than this machine's own only where that is safe. Raises ``BadSetting``.
    """
    return HealthListener(manager.check_health, metrics=metrics, host=host, port=port)


class HealthListener:
    """Listens from ``open`` to ``close``, or inside ``with``. Belongs to one process.

    * ``/livez``: 200 as long as the process can answer at all; it depends on nothing.
    * ``/readyz``: 200 when every check is ``ok``, else 503 with the names of the others. With
      ``?verbose`` a line for each check.
    * ``/metrics``: the answer of ``metrics``; 404 without one.

    ``checks`` and ``metrics`` are called from threads.
    """

    def __init__(
        self,
        checks: Checks,
        *,
        metrics: WSGIApplication | None = None,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        option: str = "port",
    ) -> None:
        """Check the address; bind nothing. ``option`` is the setting that an error names."""
        port = check_whole(option, port, "a port from 0 to 65535", 0, 65_535)
        self._app = HealthApp(checks, metrics)
        self.host = host
        self.port = port
        """The port that it listens on, once it is open."""
        self._option = option
        self._server: HealthServer | None = None
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None

    @property
    def url(self) -> str:
        """The URL that it listens on, without a path."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def open(self) -> Self:
        """Listen. A second call does nothing. Raises ``CannotListen``."""
        if self._server is not None:
            return self
        from tapescope.http._server import HealthServer  # http.server: 30 ms of a start without it

        try:
            server = HealthServer(self.host, self.port, self._app)
        except (OSError, UnicodeError) as error:  # the latter for a host that is not a valid name
            cause = getattr(error, "strerror", None) or str(error)
            raise CannotListen(self.host, self.port, cause, option=self._option) from error
        self._server = server
        self.port = server.server_port
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(
            target=server.work, args=(woken,), name="tapescope-health", daemon=True
        )
        self._thread.start()
        _log.info("Metrics and health are served on %s.", self.url)
        return self

    def close(self) -> None:
        """Listen no more; requests that are being answered go on. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        assert self._wake is not None
        assert self._thread is not None
        self._wake.close()  # the thread sees that at once
        self._thread.join()
        server.server_close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class HealthApp:
    """The WSGI application with the three paths. A server of its own may mount it, too."""

    def __init__(self, checks: Checks, metrics: WSGIApplication | None) -> None:
        self._checks, self._metrics = checks, metrics

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics" and self._metrics is not None:
            try:
                return self._metrics(environ, start_response)
            except Exception:  # noqa: BLE001  # a user's instruments may raise anything: Prometheus shows the failed scrape
                _log.exception("A scrape failed.")
                status, text = "500 Internal Server Error", "The scrape failed; see the log.\n"
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, text = "405 Method Not Allowed", "Ask with GET.\n"
        elif path == "/livez":
            status, text = "200 OK", "ok\n"
        elif path == "/readyz":
            query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            status, text = self._answer_readiness(verbose="verbose" in query)
        elif path == "/metrics":
            status = "404 Not Found"
            text = "There are no metrics here: the listener was made without a Prometheus reader.\n"
        else:
            status, text = "404 Not Found", "There are /livez, /readyz?verbose and /metrics.\n"
        body = text.encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer_readiness(self, *, verbose: bool) -> tuple[str, str]:
        checks = self._checks()
        failed = [check.name for check in checks if not check.ok]
        summary = f"not ready: {', '.join(failed)}" if failed else "ok"
        lines = [f"[{'+' if c.ok else '-'}] {c.name}: {c.detail}" for c in checks]
        text = "\n".join([*(lines if verbose else ()), summary, ""])
        return ("503 Service Unavailable" if failed else "200 OK"), text
