"""A real Prometheus, from the machine's packages, that scrapes what a test serves."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tapescope.testing import until
from tests.support.scrapes import fetch
from tests.support.services import require

__all__ = ["PrometheusServer", "running_prometheus"]

_CONFIG = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: tapescope
    static_configs: [{{targets: {targets}}}]
"""


class PrometheusServer:
    """Its query interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, path: str, **query: str) -> Any:
        """The data of ``/api/v1/{path}``."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        answer = await asyncio.to_thread(fetch, asked)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series of an instant query, each with its value."""
        data = await self.ask("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]


@asynccontextmanager
async def running_prometheus(
    folder: Path, targets: Sequence[str]
) -> AsyncGenerator[PrometheusServer]:
    """Prometheus with exemplar storage on, its data in ``folder``, on a port of its own choice."""
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(targets=json.dumps(list(targets))))
    log = folder / "prometheus.log"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            require("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--enable-feature=exemplar-storage",
            stdout=said,
            stderr=said,
        )
        try:
            port = await until(lambda: _find_port(process, log), within=30)
            server = PrometheusServer(f"http://127.0.0.1:{port}")
            await until(
                lambda: asyncio.to_thread(lambda: fetch(f"{server.url}/-/ready").status == 200),
                within=30,
            )
            yield server
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _find_port(process: Process, log: Path) -> int | None:
    assert process.returncode is None, log.read_text()
    for connection in psutil.Process(process.pid).net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            return int(connection.laddr.port)
    return None
