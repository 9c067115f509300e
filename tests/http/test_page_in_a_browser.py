"""The pages in a real Chromium: what a person does there, by mouse and by keyboard.

``make test-slow`` runs it. Each page is held to: no error on its console, no request to another
machine, no fault that axe calls serious.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, async_playwright

from dashboards.drawing import run_node
from tapescope import EventDropped, NewTask, Reporter, TaskManager, ThreadReporter
from tapescope.http.access import Grant
from tapescope.http.api import make_app
from tapescope.http.tokens import TokenFile
from tapescope.model.wording import shorten_id
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.http.client import serving
from tests.support.breaches import make_ended
from tests.support.services import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

AXE = Path(__file__).parent / "browser"


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, as the lock beside it names it."""
    done = run_node("npm", ["ci"], AXE)
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"npm ci: {done.stderr[-500:]}, and CI must have it")
        pytest.skip("npm cannot get axe-core")
    script = AXE / "node_modules" / "axe-core" / "axe.min.js"
    return script.read_text(encoding="utf-8")


@dataclass
class Watched:
    """A browser whose pages are watched for what must not happen."""

    context: BrowserContext
    faults: list[str] = field(default_factory=list[str])
    may_fail: bool = False
    """Whether the server is away for a while, which a browser notes on its console."""

    async def open(self, url: str) -> Page:
        """A new tab."""
        page = await self.context.new_page()
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._note_request)
        await page.goto(url)
        return page

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.may_fail:
            self.faults.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "http://localhost:")):
            self.faults.append(f"a request to {request.url}")


@asynccontextmanager
async def browsing(**settings: Any) -> AsyncGenerator[Watched]:
    """A headless Chromium, which ends without a fault."""
    chromium = require("chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=options)
        try:
            context = await browser.new_context(**settings)
            watched = Watched(context)
            yield watched
            assert watched.faults == []
        finally:
            await browser.close()


@dataclass
class Bench:
    """A manager with ops, and its application."""

    manager: TaskManager
    app: FastAPI
    go_on: asyncio.Event
    late: threading.Event
    """Set: the thread that ignores its cancel goes on, and is too late."""


@asynccontextmanager
async def working(url: str, *, work: bool = True) -> AsyncGenerator[Bench]:
    """A manager that runs ``count``, step by step, and ``stubborn``, which no cancel stops."""
    manager = TaskManager(url, work=work, drain=0, cancel_grace=0.1)
    bench = Bench(manager, make_app(manager), asyncio.Event(), threading.Event())

    @manager.op("count")
    async def count(report: Reporter, n: int = 5) -> int:
        for step in range(n):
            await report.progress("count", step, n)
            await report.log("info", f"step {step} <b>of</b> {n}")
        await bench.go_on.wait()
        return n

    @manager.op("stubborn")
    def stubborn(report: ThreadReporter) -> None:
        report.emit("began")
        bench.late.wait(60)
        for n in range(3):
            try:
                report.emit("reading", {"n": n})
            except EventDropped:
                continue

    async with manager:
        try:
            yield bench
        finally:
            bench.late.set()


async def texts(page: Page, selector: str) -> list[str]:
    """What the elements say."""
    return [" ".join(text.split()) for text in await page.locator(selector).all_inner_texts()]


async def reach(page: Page, selector: str, n: int = 1) -> None:
    """Wait until there are so many of these."""

    async def there() -> bool:
        return await page.locator(selector).count() >= n

    await until(there, within=30)


async def test_a_task_is_submitted_watched_cancelled_and_late(sqlite_url: str) -> None:
    """From the form to the refused events behind the final; what a person typed or opened stays."""
    async with working(sqlite_url) as bench, serving(bench.app) as (server, _), browsing() as seen:
        page = await seen.open(f"{server.url}/submit?op=stubborn")
        await page.get_by_role("button", name="Submit").click()
        await page.wait_for_url("**/tasks/*")
        await reach(page, "#rows > li", 2)
        task_id = page.url.rpartition("/")[2]
        await page.locator("#rows summary").first.click()
        await page.locator("#acts summary").click()
        field = page.get_by_label("Reason")
        await field.fill("too stubborn")
        async with page.expect_response(lambda answer: "part=life" in answer.url):
            pass
        still = await field.input_value()
        await page.get_by_role("button", name="Request the cancel").click()
        await reach(page, "#rows > li.final")
        final = await texts(page, "#rows > li.final .said")
        bench.late.set()
        await reach(page, "#late .refused", 3)
        refused = await texts(page, "#late .refused .said")
        marks = await page.locator(".f-refused title").count()
        state = await texts(page, ".state .badge")
        row = await bench.manager.store.get(task_id)
        link = page.locator("#rows > li:nth-child(1) a")
        await page.goto(f"{server.url}{await link.get_attribute('href')}")
        opened = page.locator(".event:target details[open]")
        await reach(page, ".event:target")
        linked = [await opened.count(), await page.locator(".event:target .seq").inner_text()]

    assert linked == [1, "1"]
    assert still == "too stubborn"
    assert final == ["cancelled (user, too stubborn)"]
    assert all("refused: after terminal" in said and "after the final" in said for said in refused)
    assert marks >= 1
    assert state == ["⊘ cancelled", "tape sound"]
    assert row.cancel is not None


async def test_a_tape_is_followed_through_a_restart_of_the_server(sqlite_url: str) -> None:
    """The page says that the connection is lost, and goes on: every row once, in order."""
    async with working(sqlite_url) as bench, browsing() as seen:
        task_id = (await bench.manager.submit("count", params={"n": 3})).task_id
        async with serving(bench.app) as (server, _):
            page = await seen.open(f"{server.url}/tasks/{task_id}")
            await reach(page, "#rows > li", 7)
            seen.may_fail = True
        lost = await page.locator("#link").inner_text()
        bench.go_on.set()
        await bench.manager.handle(task_id).result()
        async with serving(make_app(bench.manager), server.port):
            await reach(page, "#rows > li.final")
            rows = [
                await one.get_attribute("data-seq")
                for one in await page.locator("#rows > li").all()
            ]
            await until(lambda: _says(page, "#link", "ended"), within=30)

    assert "stop" in lost or "lost" in lost
    assert rows == [str(seq) for seq in range(1, 9)]


async def _says(page: Page, selector: str, text: str) -> bool:
    return await page.locator(selector).inner_text() == text


async def test_a_list_is_gone_through_by_keyboard(sqlite_url: str) -> None:
    """Filter, page, choose, cancel with a reason, find, open: no mouse is needed."""
    async with working(sqlite_url, work=False) as bench, AsyncExitStack() as stack:
        store = bench.manager.store
        tasks = [await store.create(NewTask(new_task_id(), "ab"[n % 2])) for n in range(8)]
        newest = [task.task_id for task, _ in reversed(tasks)]
        server, _ = await stack.enter_async_context(serving(bench.app))
        seen = await stack.enter_async_context(browsing())
        page = await seen.open(f"{server.url}/tasks?limit=2")
        press = page.keyboard.press
        await page.get_by_label("op", exact=True).select_option("b")
        await page.get_by_role("button", name="Filter").press("Enter")
        await page.wait_for_url("**/tasks?op=b")
        await page.goto(f"{server.url}/tasks?op=b&limit=2")
        await page.get_by_role("link", name="Older").press("Enter")
        await page.wait_for_url("**&cursor=*")
        for key in ("j", "x", "j", "x"):
            await press(key)
        chosen = await page.locator("[data-chosen]").inner_text()
        await page.get_by_role("button", name="Cancel the chosen").press("Enter")
        await page.get_by_label("Reason").type("both")
        await press("Enter")
        await page.wait_for_url("**did=cancel*")
        told = await page.locator(".note").inner_text()
        await press("?")
        helped = await page.locator("#help").is_visible()
        await press("Escape")
        await press("/")
        await page.keyboard.type(shorten_id(newest[0]))
        await press("Enter")
        await page.wait_for_url(f"**/tasks/{newest[0]}")
        await press("g")
        await press("t")
        await page.wait_for_url("**/tasks")
        await press("j")
        await press("Enter")
        await page.wait_for_url(f"**/tasks/{newest[0]}")
        cancels = [(await store.get(task_id)).cancel for task_id in newest]

    assert chosen.startswith("2 chosen")
    assert told.startswith("2 cancels were requested.")
    assert helped
    assert [cancel and cancel.message for cancel in cancels] == [
        *(None, None, None, None, "both", None, "both", None)
    ]


async def test_a_schedule_is_paused_and_triggered_by_keyboard(sqlite_url: str) -> None:
    """Found by a key, opened, paused, resumed and triggered, each after a confirmation."""
    async with working(sqlite_url, work=False) as bench, AsyncExitStack() as stack:
        schedules = bench.manager.schedules
        await schedules.add("nightly", "count", cron="0 3 * * *")
        server, _ = await stack.enter_async_context(serving(bench.app))
        seen = await stack.enter_async_context(browsing())
        page = await seen.open(f"{server.url}/")
        press = page.keyboard.press
        await press("g")
        await press("s")
        await page.wait_for_url("**/schedules")
        await press("j")
        await press("Enter")
        await page.wait_for_url("**/schedules/nightly")
        await page.locator("#acts summary").first.press("Enter")
        await page.get_by_role("button", name="Pause", exact=True).press("Enter")
        await page.wait_for_url("**did=pause")
        paused = (await schedules.get("nightly")).paused
        told = await page.locator(".note").inner_text()
        await page.locator("#acts summary").first.press("Enter")
        await page.get_by_role("button", name="Resume", exact=True).press("Enter")
        await page.wait_for_url("**did=resume")
        resumed = (await schedules.get("nightly")).paused
        await page.locator("#acts summary").last.press("Enter")
        async with page.expect_response(lambda answer: "hx-request" in answer.request.headers):
            pass
        await page.get_by_role("button", name="Trigger", exact=True).press("Enter")
        await page.wait_for_url("**/tasks/*")
        row = await bench.manager.store.get(page.url.rpartition("/")[2])

    assert (paused, resumed) == (True, False)
    assert told == "It makes no tasks until it is resumed."
    assert (row.op, (row.idempotency_key or "")[:16]) == ("count", "trigger:nightly#")


async def test_a_link_on_another_site_leads_to_who_is_logged_in(
    sqlite_url: str, tmp_path: Path
) -> None:
    """A strict cookie is not sent with it; the page asks again, and is answered."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("read")], 0)
    async with TaskManager(sqlite_url, work=False) as manager, AsyncExitStack() as stack:
        task_id = (await make_ended(manager.store))[0].task_id
        server, _ = await stack.enter_async_context(serving(make_app(manager, tokens=tokens)))
        link = f'<a href="{server.url}/tasks/{task_id}">task</a>'
        other = await stack.enter_async_context(elsewhere(f'<link rel="icon" href="data:,">{link}'))
        seen = await stack.enter_async_context(browsing())
        page = await seen.open(f"{server.url}/tasks/{task_id}")
        asked = page.url
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(f"**/tasks/{task_id}")
        await page.goto(f"http://localhost:{other}/")
        await page.get_by_role("link").click()
        await reach(page, "#rows > li.final")
        buttons = await page.locator("#acts summary").count()

    assert "/login?next=" in asked
    assert buttons == 0, "the token reads"


@asynccontextmanager
async def elsewhere(html: str) -> AsyncGenerator[int]:
    """Another site, of one page; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + html.encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as site:
        yield site.sockets[0].getsockname()[1]


SHIFTS = """
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) {
    if (!one.hadRecentInput) window.shifted = (window.shifted || 0) + one.value;
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize(
    ("scheme", "size"),
    [("light", (390, 844)), ("dark", (1280, 900))],
    ids=["light, a phone", "dark, a desktop"],
)
async def test_no_page_has_a_serious_fault(
    sqlite_url: str, axe: str, scheme: str, size: tuple[int, int]
) -> None:
    """By axe, in both themes; nothing moves by itself, and nothing is wider than the screen."""
    wrong: list[str] = []
    async with working(sqlite_url) as bench, serving(bench.app) as (server, _):
        ended = (await make_ended(bench.manager.store))[0].task_id
        runs = (await bench.manager.submit("count", params={"n": 40})).task_id
        await bench.manager.submit("stubborn", delay=900)
        for name, op in (("nightly", "count"), ("of.nobody", "lone")):
            await bench.manager.schedules.add(name, op, cron="0 3 * * *")
        await bench.manager.schedules.pause("of.nobody")
        viewport = {"width": size[0], "height": size[1]}
        async with browsing(color_scheme=scheme, viewport=viewport) as seen:
            await seen.context.add_init_script(SHIFTS)
            page = await seen.open(f"{server.url}/audit")
            await page.get_by_role("button", name="Audit now").click()
            await page.wait_for_url("**/audit")
            paths = ["/", "/tasks", f"/tasks/{ended}", f"/tasks/{runs}", "/drops", "/schedules"]
            paths += ["/schedules/nightly"]
            if scheme == "dark":  # these are made of the same parts: once is enough
                paths += ["/workers", "/audit", "/submit", "/ops/count", "/tasks?status=x"]
            for path in paths:
                await page.goto(server.url + path)
                if await page.locator("#live, #life").count():  # it is asked for anew
                    async with page.expect_request(lambda one: "hx-request" in one.headers):
                        pass
                for summary in (await page.locator("summary").all())[:2]:
                    await summary.click()
                await page.evaluate(axe)
                found = await page.evaluate("axe.run()")
                wrong += [
                    f"{path}: {one['id']}: {one['nodes'][0]['html']}"
                    for one in found["violations"]
                    if one["impact"] in ("serious", "critical")
                ]
                width = await page.evaluate("document.documentElement.scrollWidth")
                shifted = await page.evaluate("window.shifted || 0")
                wrong += [f"{path}: {width} wide"] if width > size[0] else []
                wrong += [f"{path}: shifted by {shifted}"] if shifted > 0.01 else []
            seen.faults = [one for one in seen.faults if "422" not in one]  # the page of an error

    assert wrong == []
