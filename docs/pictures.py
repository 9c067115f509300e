"""``make pictures``: every board, dark and light, from a real Prometheus under load and drills.

The program under load, ``tapescope drill`` and a Prometheus with time-scaled rules run as in the
live run of the pack; then the committed dashboards are drawn with Grafana's own components
(``dashboards/drawing.py``). It takes some minutes, and needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from dashboards.build import BOARDS
from dashboards.drawing import Browser, Mode, Source
from tapescope.drills.catalogue import find_drill
from tests.dashboards.observed import Live, running_stack, wait_for
from tests.dashboards.pack import read_board
from tests.support.services import running_collector

FOLDER: Final = Path(__file__).parent / "boards"
DRILLS: Final = ("late-event", "zombie-worker", "store-outage", "integrity-violation")
SCALE: Final = 6
"""Shipped waits are divided by this; a scrape each 2.5 seconds is not missed by a busy machine."""
INTERVAL: Final = "12s"
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
        source = Source(live.prometheus, now, int(now - began), step=2, interval=INTERVAL)
        for name in BOARDS:
            draw(browser, source, name, folder)


def make_drills(live: Live) -> None:
    """One after the other, each until its alert has fired, with the load alone in between."""
    time.sleep(QUIET)
    for name in DRILLS:
        (alert,) = find_drill(name).alerts
        with live.drill(name) as since:
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


def write(picture: bytes, folder: Path, name: str, mode: Mode) -> None:
    """Write the picture, and say how large it is."""
    file = folder / f"{name}-{mode}.png"
    file.write_bytes(picture)
    print(f"{file.name}: {len(picture) / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
