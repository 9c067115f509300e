"""``make page-pictures``: the page in a headless Chromium, dark and light, desktop and phone.

A demo's tasks run on a store of their own for a while; then its pages are drawn. Look at them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import sysconfig
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.async_api import Browser, async_playwright

from tapescope import Reporter, TaskManager, TaskStatus, find_store
from tapescope.demo import find_files, make_manager, run_endless
from tapescope.http.api import ApiServer, make_app

FOLDER: Final = Path(__file__).parent / "page"
COLOURS: Final = 256
"""Of a picture's palette."""
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)
PACE: Final = 0.4
"""Seconds between two tasks: so many have come by the time that pictures are made."""


async def main(folder: Path, seconds: float) -> None:
    """Run tasks, draw, and say what was written."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("chromium is not installed; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="tapescope-page-") as data:
        store = find_store(f"sqlite:///{data}/tasks.db")
        manager = make_manager(store)
        server = ApiServer(make_app(manager), "127.0.0.1", 0)
        server.listen()
        async with store, manager, async_playwright() as playwright:
            serving = asyncio.ensure_future(server.serve())
            await add_schedules(manager)
            files = find_files(Path(sysconfig.get_path("stdlib")))
            arriving = asyncio.ensure_future(run_endless(manager, files, PACE))
            options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
            browser = await playwright.chromium.launch(executable_path=chromium, args=options)
            try:
                await asyncio.sleep(seconds)
                await audit(browser, server.url)
                await draw_all(browser, manager, server.url, folder)
            finally:
                await browser.close()
                arriving.cancel()
                server.drain()
                await asyncio.gather(serving, arriving, return_exceptions=True)


async def add_schedules(manager: TaskManager) -> None:
    """Of each kind that the page tells apart: one that fires, one for the night, one that is
    paused, and one whose op no worker runs."""
    schedules = manager.schedules
    manager.op("photos.count")(count_photos)
    params = {"folder": "photos"}
    await schedules.add("count.often", "photos.count", every=20, params=params)
    await schedules.add(
        "count.nightly",
        "photos.count",
        cron="0 3 * * *",
        time_zone="Europe/Berlin",
        overlap="skip",
        params=params,
    )
    await schedules.add("count.weekly", "photos.count", cron="30 6 * * MON", params=params)
    await schedules.pause("count.weekly")
    await schedules.add("reports.monthly", "reports.build", cron="0 5 1 * *", catch_up="all")


async def count_photos(report: Reporter, folder: str) -> int:
    """What the schedules submit."""
    await report.log("info", f"counting {folder}")
    return len(folder)


async def audit(browser: Browser, url: str) -> None:
    """Have the tapes audited, as a person has it."""
    page = await browser.new_page()
    await page.goto(f"{url}/audit")
    await page.get_by_role("button", name="Audit now").click()
    await page.get_by_text("no violation").wait_for()
    await page.close()


async def draw_all(browser: Browser, manager: TaskManager, url: str, folder: Path) -> None:
    """Every picture that the docs show; none of a traceback, which has paths of this machine."""
    late = (await manager.store.list(op="stubborn", status=TaskStatus.CANCELLED)).tasks[-1]
    task, list_ = f"/tasks/{late.task_id}", "/tasks"
    await draw(browser, url, folder / "overview-dark.png", "dark", DESKTOP)
    await draw(browser, url, folder / "overview-light.png", "light", DESKTOP)
    await draw(browser, url + task, folder / "task-dark.png", "dark", DESKTOP)
    await draw(browser, url + task, folder / "task-light.png", "light", DESKTOP)
    await draw(browser, url + task, folder / "task-phone.png", "light", PHONE)
    await draw(browser, url + list_, folder / "tasks-dark.png", "dark", DESKTOP)
    await draw(browser, url + list_, folder / "tasks-phone.png", "dark", PHONE)
    schedules, schedule = "/schedules", "/schedules/count.often"
    await draw(browser, url + schedules, folder / "schedules-dark.png", "dark", DESKTOP)
    await draw(browser, url + schedules, folder / "schedules-phone.png", "light", PHONE)
    await draw(browser, url + schedule, folder / "schedule-light.png", "light", DESKTOP)


async def draw(
    browser: Browser, url: str, file: Path, scheme: Literal["dark", "light"], size: tuple[int, int]
) -> None:
    """One picture."""
    width, height = size
    page = await browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    await page.goto(url)
    await page.wait_for_timeout(500)
    save(await page.screenshot(), file)
    await page.close()


def save(picture: bytes, file: Path) -> None:
    """Write it with a small palette, and say so."""
    with Image.open(BytesIO(picture)) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, "png", optimize=True)
    print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="docs/page.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--seconds", type=float, default=120, help="how long tasks run before")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(chosen.output, chosen.seconds))
