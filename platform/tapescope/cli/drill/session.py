"""A drill from its store to its last word: refuse, make the fault, hold on, clean up."""

from __future__ import annotations

import asyncio
import shlex
import signal
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from tapescope.cli.drill.catalogue import Drill, find_drill
from tapescope.cli.drill.errors import StoreHasTasks
from tapescope.cli.drill.scene import OP_PREFIX, Scene
from tapescope.cli.exporting import exporting
from tapescope.cli.output import make_printable, print_line, say
from tapescope.cli.scraping import Scrape
from tapescope.cli.settings import file_url
from tapescope.errors import BadSetting
from tapescope.model.tasks import TaskStatus
from tapescope.store.lookup import find_store, hide_password
from tapescope.store.port import TaskStore
from tapescope_telemetry import read_settings

__all__ = ["run_drill"]

_PAGE: Final = 1_000
_FIRST_SCRAPE: Final = 60.0
"""Seconds: the longest scrape interval that is usual."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_drill(
    name: str | None,
    *,
    store: str | None,
    hold: float | None,
    metrics_host: str,
    metrics_port: int | None,
    on_real_store: bool,
) -> int:
    """Make a fault, hold on until its alert has fired, and clean up; gives the exit status.

    That is 0 once the fault was made, and 128 + n when signal n came before. Without ``store`` it
    is a scratch store, which is deleted in the end. Raises ``UnknownDrill``, ``StoreHasTasks``,
    ``CannotDrill``, ``BadSetting``, ``CannotListen`` and what the store raises.
    """
    drill = find_drill(name)
    if hold is not None and not 0 <= hold < float("inf"):
        raise BadSetting("--hold", hold, "a number of seconds, 0 or more")
    watched = metrics_port is not None or read_settings().wanted
    if hold is None and watched:
        hold = drill.hold
    with tempfile.TemporaryDirectory(prefix="tapescope-drill-") as scratch:
        url = store
        if url is None or drill.scratch:
            url = file_url(Path(scratch) / "scratch.db")
        scrape = Scrape(metrics_host, metrics_port)
        with exporting(*scrape.readers), scrape:
            if metrics_port == 0:  # nobody can know it otherwise
                say(f"metrics and health on {scrape.url}")
            session = _Session(drill, url, scrape, is_scratch=url != store)
            return asyncio.run(session.run(hold, on_real_store=on_real_store))


class _Session:
    """One drill on one store."""

    def __init__(self, drill: Drill, url: str, scrape: Scrape, *, is_scratch: bool) -> None:
        self._drill = drill
        self._url = url
        self._scrape = scrape
        self._is_scratch = is_scratch
        self._made = False
        self._signal: signal.Signals | None = None

    async def run(self, hold: float | None, *, on_real_store: bool) -> int:
        drill = self._drill
        async with find_store(self._url) as store:
            if not on_real_store:
                await _refuse_real_tasks(store)
            scene = Scene(drill.op, self._url, store, self._scrape)
            with self._hearing_signals():
                try:
                    self._announce(store)
                    await _clean_up(store, drill.op)  # what a killed drill has left
                    await self._let_zeros_be_scraped(store, hold)
                    async with self._cleaning_up(store), drill.fault(scene) as happened:
                        self._made = True
                        print_line(f"happened  {happened}")
                        await self._hold(hold)
                except asyncio.CancelledError:
                    if self._signal is None:
                        raise
        return 0 if self._made or self._signal is None else 128 + self._signal

    def _announce(self, store: TaskStore) -> None:
        drill = self._drill
        where = "a scratch store" if self._is_scratch else make_printable(store.name)
        option = f"--store {shlex.quote(hide_password(self._url))}"
        until = ", before the drill ends" if self._is_scratch else ""
        print_line(f"drill     {drill.name}: {drill.does}")
        print_line(f"on        {where}, op {drill.op}")
        for alert in drill.alerts:
            wait = f"{drill.wait:g} s after that" if drill.wait else "with the next evaluation"
            print_line(f"alert     {alert}, {wait}; see dashboards/runbooks/{alert}.md")
        print_line(f"look      tapescope {drill.look} {option}{until}")

    async def _let_zeros_be_scraped(self, store: TaskStore, hold: float | None) -> None:
        """A counter whose first sample is not 0 grows unseen by ``rate`` and ``increase``."""
        store.telemetry.tasks.seen(self._drill.op)
        if hold and self._scrape.readers:
            print_line(f"waiting   for a scrape first, at most {_FIRST_SCRAPE:g} s")
            if not await self._scrape.wait_for_scrape(_FIRST_SCRAPE):
                print_line("unseen    nobody has scraped this process: is it a target?")

    async def _hold(self, seconds: float | None) -> None:
        """Go on, so that Prometheus sees it; a signal ends it sooner."""
        if seconds is None:
            print_line("unseen    nothing scrapes this process: name a --metrics-port to be seen")
        if not seconds:
            return
        print_line(f"holding   for {seconds:g} s, so that it is scraped; Ctrl-C ends it sooner")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._signal is None or task is None:
                raise
            task.uncancel()  # it was ours, and what follows is not to be cut short

    @asynccontextmanager
    async def _cleaning_up(self, store: TaskStore) -> AsyncGenerator[None]:
        """Leave nothing of the drill's tasks, however it went."""
        try:
            yield
        finally:
            if (task := asyncio.current_task()) is not None and self._signal is not None:
                while task.cancelling():
                    task.uncancel()
            pruned, left = await _clean_up(store, self._drill.op)
            late = store.meter.ledger.read().dropped
            if not self._is_scratch:
                print_line(f"cleaned   {pruned} tasks were deleted with their tapes")
                if late:
                    print_line(
                        f"stays     {late} late events in the quarantine, which goes by age alone:"
                        " tapescope prune --quarantine --older-than 0s"
                    )
            if left:
                say(f"{left} tasks of {self._drill.op} have not ended; prune them when they have")

    @contextmanager
    def _hearing_signals(self) -> Generator[None]:
        """The first one ends the drill, with its cleaning up; a second one ends us at once."""
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None

        def hear(number: signal.Signals) -> None:
            self._signal = number
            stop()
            main.cancel()

        def stop() -> None:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

        for number in _SIGNALS:
            loop.add_signal_handler(number, hear, number)
        try:
            yield
        finally:
            stop()


async def _refuse_real_tasks(store: TaskStore) -> None:
    before: str | None = None
    while True:
        page = await store.list(limit=_PAGE, before=before)
        for task in page.tasks:
            if not task.op.startswith(OP_PREFIX):
                raise StoreHasTasks(store.name, task.op)
        if page.next is None:
            return
        before = page.next


async def _clean_up(store: TaskStore, op: str) -> tuple[int, int]:
    """End what still lives of an op, and delete all of it; how many there were, and are left."""
    for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
        page = await store.list(status=status, op=op, limit=_PAGE)
        for task in page.tasks:
            await store.request_cancel(task.task_id, message=f"{op}: the drill is over")
    if (await store.list(status=TaskStatus.RUNNING, op=op, limit=1)).tasks:
        await store.leases.rescue_expired(ops=await store.ops.read())  # as every manager does
    pruned = await store.maintenance.prune(older_than=0.0, op=op)
    return pruned, len((await store.list(op=op, limit=_PAGE)).tasks)
