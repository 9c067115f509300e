"""``tapescope exporter``, as a process."""

from __future__ import annotations

import asyncio
import signal

from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.support.scrapes import fetch, scrape


def test_the_command_serves_until_a_signal(sqlite_url: str, tapescope: Tapescope) -> None:
    """On this machine alone; a signal ends it with status 0."""
    tapescope.here("submit", "resize")
    with tapescope.started("exporter", "--port", "0") as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        url = said.split()[-1]

        async def is_read() -> bool:
            return fetch(f"{url}/readyz").status == 200

        assert asyncio.run(until(is_read))
        scraped = scrape(url)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert "http://127.0.0.1:" in said
    assert scraped.value("tapescope_store_tasks_submitted_total", task_op="resize") == 1
    assert scraped.value("tapescope_task_backlog", task_op="resize", task_state="due") == 1
    assert process.returncode == 0
