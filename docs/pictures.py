"""``make pictures``: every board, dark and light, from a real Prometheus under load and drills.

The program under load, ``tapescope drill`` and a Prometheus with time-scaled rules run as in the
live run of the pack; then the committed dashboards are drawn with Grafana's own components
(``dashboards/drawing.py``). It takes some minutes, and needs Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from dashboards.build import BOARDS
from dashboards.drawing import Browser, Mode, Source
from dashboards.task import ASKED, QUESTIONS
from tapescope import EventDropped, Reporter, TaskManager
from tapescope.drills.catalogue import find_drill
from tests.dashboards.observed import Live, running_stack, wait_for
from tests.dashboards.pack import read_board
from tests.support.services import Postgres, running_collector, running_postgres

FOLDER: Final = Path(__file__).parent / "boards"
DRILLS: Final = ("late-event", "zombie-worker", "store-outage", "integrity-violation")
SCALE: Final = 6
"""Shipped waits are divided by this; a scrape each 2.5 seconds is not missed by a busy machine."""
INTERVAL: Final = "12s"
BEHIND: Final = 12
"""Seconds of the end behind a half minute: a time on an axis that ends with it would be cut off."""
QUIET: Final = 45
"""Seconds before the first drill and after each."""
CHOSEN: Final = {"op": {"op": "resize|import"}}
"""The board of an op repeats for each: one that ends well, and one that does not."""
MODES: Final[tuple[Mode, ...]] = ("dark", "light")
TOP: Final = "Times"
"""The row before which the picture of the README ends."""


def main() -> None:
    """Run it all, draw, and say what was written."""
    parser = argparse.ArgumentParser(prog="docs/pictures.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    folder: Path = parser.parse_args().output
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("chromium is not installed; on Debian: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Browser.running(chromium) as browser,
        tempfile.TemporaryDirectory(prefix="tapescope-pictures-") as data,
        running_collector() as collector,
        running_stack(Path(data), collector, len(DRILLS), scale=SCALE) as live,
    ):
        began = time.time()
        make_drills(live)
        now = time.time()
        now -= (now - BEHIND) % 30
        source = Source(live.prometheus, now, int(now - began), step=2, interval=INTERVAL)
        for name in BOARDS:
            draw(browser, source, name, folder)
        draw_task(browser, source, folder)


def make_drills(live: Live) -> None:
    """One after the other, each until its alert has fired, with the load alone in between."""
    time.sleep(QUIET)
    for name in DRILLS:
        (alert,) = find_drill(name).alerts
        with live.drill(name) as (_, since):
            wait_for(lambda: live.webhook.find(alert, "firing", since), 200)  # noqa: B023  # called before the next round
        time.sleep(QUIET)


def draw(browser: Browser, source: Source, name: str, folder: Path) -> None:
    """A board in both themes; of the overview its top as well, for the README."""
    board = read_board(name)
    for mode in MODES:
        write(
            browser.draw(board, source, mode, chosen=CHOSEN.get(name)).picture, folder, name, mode
        )
    if name == "overview":
        rows = [panel["title"] for panel in board["panels"]]
        top = json.loads(json.dumps({**board, "panels": board["panels"][: rows.index(TOP)]}))
        write(browser.draw(top, source).picture, folder, "top", "dark")


def draw_task(browser: Browser, source: Source, folder: Path) -> None:
    """The board of one task, with what a real PostgreSQL store answers its questions."""
    with running_postgres() as server:
        task_id, rows = asyncio.run(ask_store(server))
    for mode in MODES:
        drawn = browser.draw(read_board("task"), source, mode, chosen={"task": task_id}, rows=rows)
        write(drawn.picture, folder, "task", mode)


async def ask_store(server: Postgres) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """A task that is made again and reports too late: its id, and each table of its board."""
    url = server.url()
    kept: list[Reporter] = []

    async def fetch(report: Reporter) -> None:
        kept.append(report)
        await report.progress("rows", len(kept), 2)
        if len(kept) == 1:
            await asyncio.Event().wait()

    async with TaskManager(url, retry_delay=0.2) as manager:
        task = await manager.submit("fetch", fetch, timeout=0.5, retries=1)
        await task.result()
        with suppress(EventDropped):
            await kept[-1].log("info", "one more thing")
    schema = {"search_path": url.partition("schema=")[2]}
    connection = await asyncpg.connect(server.dsn, server_settings=schema)
    try:
        rows = {
            question.title: [
                {name: shown(value) for name, value in row.items()}
                for row in await connection.fetch(question.sql.replace(ASKED, f"'{task.task_id}'"))
            ]
            for question in QUESTIONS
        }
    finally:
        await connection.close()
    return task.task_id, rows


def shown(value: object) -> object:
    """As a table shows it; a number stays one."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return value if isinstance(value, int | str) else "" if value is None else float(str(value))


def write(picture: bytes, folder: Path, name: str, mode: Mode) -> None:
    """Write the picture, and say how large it is."""
    file = folder / f"{name}-{mode}.png"
    file.write_bytes(picture)
    print(f"{file.name}: {len(picture) / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
