"""What watches the live run: Prometheus, Alertmanager and a webhook, with time-scaled rules."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from dashboards import settings
from dashboards.build import main as build
from tapescope.testing import until
from tests.dashboards.pack import FOLDER
from tests.support.scrapes import fetch
from tests.support.services import Collector, find_ports, require

__all__ = ["SCALE", "SERVICE", "Live", "running_stack"]

SCALE: Final = 30
"""Every window, wait and interval is divided by this: five minutes are 10 seconds."""
SERVICE: Final = "dashboards-live"
ROOT: Final = FOLDER.parent


class Webhook:
    """Where Alertmanager posts to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: list[tuple[float, dict[str, Any]]] = []

    def add(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Keep what one post told of."""
        with self._lock:
            self._told += [(time.monotonic(), alert) for alert in alerts]

    def find(self, name: str, status: str, since: float) -> dict[str, Any] | None:
        """The first alert of a drill with this name and status that was told of since then."""
        wanted = {"alertname": name, "job": settings.DRILL_JOB}
        with self._lock:
            for when, alert in self._told:
                if when >= since and alert["status"] == status:
                    labels: dict[str, str] = alert["labels"]
                    if wanted.items() <= labels.items():
                        return alert
        return None


class Drilled(NamedTuple):
    """A drill under way."""

    process: subprocess.Popen[str]
    since: float
    """When its fault had happened, on the monotonic clock."""


class Live:
    """The running stack."""

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int],
        prometheus: str,
        webhook: Webhook,
        program: subprocess.Popen[str] | None = None,
    ) -> None:
        self._folder = folder
        self.program = program
        self._ports = list(ports)
        self.prometheus = prometheus
        self.webhook = webhook

    @contextmanager
    def drill(self, name: str) -> Generator[Drilled]:
        """``tapescope drill`` meanwhile."""
        store = f"sqlite:///{self._folder / f'drill-{name}.db'}"
        program = [sys.executable, "-m", "tapescope.cli"]
        subprocess.run(
            [*program, "migrate", "--store", store], check=True, stdout=subprocess.DEVNULL
        )
        options = ("--store", store, "--metrics-port", str(self._ports.pop()), "--hold", "300")
        command = [*program, "drill", name, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                said: list[str] = []
                while not said or not said[-1].startswith("happened"):
                    said.append(read_line(process.stdout))
                    assert process.poll() is None, said
                yield Drilled(process, time.monotonic())
            finally:
                process.terminate()
                process.communicate()
        assert process.returncode == 0

    def ask(self, path: str, **query: str) -> Any:
        """The data of Prometheus's ``/api/v1/{path}``."""
        asked = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        answer = fetch(asked)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)["data"]

    def measure(self, expr: str, step: float = 0.5) -> list[float]:
        """Every value that the query gave in the last five minutes; NaN is none."""
        now = time.time()
        data = self.ask(
            "query_range", query=expr, start=str(now - 300), end=str(now), step=str(step)
        )
        values = [float(v) for series in data["result"] for _, v in series["values"]]
        return [value for value in values if value == value]

    def list_traces(self, expr: str) -> set[str]:
        """The trace ids of the query's exemplars."""
        now = time.time()
        data = self.ask("query_exemplars", query=expr, start=str(now - 600), end=str(now))
        return {e["labels"]["trace_id"] for series in data for e in series["exemplars"]}


def wait_for(fact: Callable[[], Any] | Callable[[], Awaitable[Any]], within: float) -> Any:
    """``tapescope.testing.until``, where no loop runs; looks a few times a second."""

    async def pause() -> None:
        await asyncio.sleep(0.1)

    return asyncio.run(until(fact, within=within, pause=pause))


def read_line(stream: IO[str] | None) -> str:
    """A line of a process, without its end."""
    assert stream is not None
    return stream.readline().strip()


@contextmanager
def running_stack(
    folder: Path, collector: Collector, drills: int, *, scale: float = SCALE
) -> Generator[Live]:
    """The program under load, and all that watches it, on free ports; stopped at the end.

    ``drills`` is how many drills there may be, ``scale`` what windows and waits are divided by.
    """
    webhook = Webhook()
    with ExitStack() as stack:
        url = stack.enter_context(listening(webhook))
        program = stack.enter_context(running_program(folder, collector))
        target = read_line(program.stdout)
        assert target.startswith("http://127.0.0.1:"), target
        prometheus, alertmanager, *ports = find_ports(2 + drills)
        build(
            [
                *("--output", str(folder), "--time-scale", str(scale), "--webhook", url),
                *("--target", target.removeprefix("http://").removesuffix("/metrics")),
                *("--alertmanager", f"127.0.0.1:{alertmanager}"),
                *("--prometheus", f"127.0.0.1:{prometheus}"),
                *(word for port in ports for word in ("--drill", f"127.0.0.1:{port}")),
            ]
        )
        stack.enter_context(running_service(folder, "prometheus-alertmanager", alertmanager))
        stack.enter_context(running_service(folder, "prometheus", prometheus))
        live = Live(folder, ports, f"http://127.0.0.1:{prometheus}", webhook, program)
        wait_for(lambda: live.ask("query", query='up{job="tapescope"} == 1')["result"], 30)
        yield live


@contextmanager
def running_program(folder: Path, collector: Collector) -> Generator[subprocess.Popen[str]]:
    """The program, its spans on their way to the collector."""
    environment = {
        **os.environ,
        **collector.variables("grpc", SERVICE),
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "PYTHONPATH": str(ROOT),
    }
    store = f"sqlite:///{folder / 'tasks.db'}"
    options = ("--store", store, "--port", "0", "--pace", "0.2")
    command = [sys.executable, "-m", "dashboards.load", *options]
    with (
        (folder / "program.log").open("w") as said,
        subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as program,
    ):
        try:
            yield program
        finally:
            program.terminate()


@contextmanager
def running_service(folder: Path, name: str, port: int) -> Generator[None]:
    """Prometheus or Alertmanager, with the configuration of the folder."""
    address = f"--web.listen-address=127.0.0.1:{port}"
    command = {
        "prometheus": [
            f"--config.file={folder / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            "--enable-feature=exemplar-storage",
        ],
        "prometheus-alertmanager": [
            f"--config.file={folder / 'alertmanager/alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager-data'}",
            "--cluster.listen-address=",
        ],
    }[name]
    log = folder / f"{name}.log"
    with (
        log.open("w") as said,
        subprocess.Popen([require(name), address, *command], stdout=said, stderr=said) as process,
    ):
        try:

            def ready() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return fetch(f"http://127.0.0.1:{port}/-/ready").status == 200
                except OSError:  # it does not listen yet
                    return False

            wait_for(ready, 30)
            yield
        finally:
            process.terminate()


@contextmanager
def listening(webhook: Webhook) -> Generator[str]:
    """A small server for the webhook; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            webhook.add(json.loads(self.rfile.read(length))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
