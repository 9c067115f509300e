"""A drill on its store: refuse, make the fault, hold on, clean up."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from tapescope.drills.catalogue import Drill
from tapescope.drills.errors import StoreHasTasks
from tapescope.drills.scene import OP_PREFIX, Scene
from tapescope.http.metrics import MetricsListener
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.lookup import find_store, hide_password
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore

__all__ = ["DrillSession", "Say", "Warn"]

_PAGE: Final = 1_000
_FIRST_SCRAPE: Final = 60.0
"""Seconds: the longest scrape interval that is usual."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str, str], None]
"""Called with a heading, such as ``happened`` or ``holding``, and the text that belongs to it."""
Warn = Callable[[str], None]
"""Called with what the person who drills must still do."""


class DrillSession:
    """One drill on one store.

    ``url`` has the store's password, which is never shown. A scratch store is deleted by the
    caller afterwards. The listener must be open, and its readers must read the metrics of this
    process.
    """

    def __init__(
        self,
        drill: Drill,
        url: str,
        listener: MetricsListener,
        *,
        is_scratch: bool,
        say: Say,
        warn: Warn,
    ) -> None:
        self._drill = drill
        self._url = url
        self._listener = listener
        self._is_scratch = is_scratch
        self._say = say
        self._warn = warn
        self._made = False
        self._signal: signal.Signals | None = None

    async def run(self, hold: float | None, *, on_real_store: bool) -> signal.Signals | None:
        """Make the fault, go on for ``hold`` seconds, and clean up.

        Gives the signal that ended the drill before its fault was made, else ``None``. SIGINT and
        SIGTERM end the drill early, with its cleaning up; a second one ends the process. ``hold``
        is ``None`` where nothing scrapes the process. Raises ``StoreHasTasks``, ``CannotDrill`` and
        what the store raises.
        """
        drill = self._drill
        store = find_store(self._url)
        if not self._is_scratch:
            store.open_mode = OpenMode.EXISTING
        async with store:
            if not on_real_store:
                await _refuse_real_tasks(store)
            scene = Scene(drill.op, self._url, store, self._listener)
            with self._handling_signals():
                try:
                    self._announce(store)
                    await _clean_up(store, drill.op)  # what a killed drill has left
                    await self._let_zeros_be_scraped(store, hold)
                    async with self._cleaning_up(store), drill.fault(scene) as happened:
                        self._made = True
                        self._say("happened", happened)
                        await self._hold(hold)
                except asyncio.CancelledError:
                    if self._signal is None:
                        raise
        return None if self._made else self._signal

    def _announce(self, store: TaskStore) -> None:
        drill = self._drill
        where = "a scratch store" if self._is_scratch else store.name
        option = f"--store {shlex.quote(hide_password(self._url))}"
        until = ", before the drill ends" if self._is_scratch else ""
        self._say("drill", f"{drill.name}: {drill.does}")
        self._say("on", f"{where}, op {drill.op}")
        for alert in drill.alerts:
            wait = f"{drill.wait:g} s after that" if drill.wait else "with the next evaluation"
            self._say("alert", f"{alert}, {wait}; see dashboards/runbooks/{alert}.md")
        self._say("look", f"tapescope {drill.look} {option}{until}")

    async def _let_zeros_be_scraped(self, store: TaskStore, hold: float | None) -> None:
        """A counter whose first sample is not 0 grows unseen by ``rate`` and ``increase``."""
        store.telemetry.tasks.seen(self._drill.op)
        if hold and self._listener.readers:
            self._say("waiting", f"for a scrape first, at most {_FIRST_SCRAPE:g} s")
            if not await self._listener.wait_for_scrape(_FIRST_SCRAPE):
                self._say("unseen", "no scrape has come to this process: is it a target?")

    async def _hold(self, seconds: float | None) -> None:
        """Go on, so that Prometheus sees the fault; a signal ends it sooner."""
        if seconds is None:
            self._say("unseen", "nothing scrapes this process: name a --metrics-port to be seen")
        if not seconds:
            return
        self._say("holding", f"for {seconds:g} s, so that it is scraped; Ctrl-C ends it sooner")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._signal is None or task is None:
                raise
            task.uncancel()  # the cancel of the signal: what follows is not to be cut short

    @asynccontextmanager
    async def _cleaning_up(self, store: TaskStore) -> AsyncGenerator[None]:
        """Leave nothing of the drill's tasks, however the drill went."""
        try:
            yield
        finally:
            if (task := asyncio.current_task()) is not None and self._signal is not None:
                while task.cancelling():
                    task.uncancel()
            pruned, left = await _clean_up(store, self._drill.op)
            late = store.meter.ledger.read().dropped
            if not self._is_scratch:
                self._say("cleaned", f"{pruned} tasks were deleted with their tapes")
                if late:
                    self._say(
                        "stays",
                        f"{late} late events in the quarantine, which goes by age alone:"
                        " tapescope prune --quarantine --older-than 0s",
                    )
            if left:
                self._warn(
                    f"{left} tasks of {self._drill.op} have not ended; prune them when they have"
                )

    @contextmanager
    def _handling_signals(self) -> Generator[None]:
        """The first signal ends the drill, with its cleaning up; a second one ends the process."""
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None

        def on_signal(number: signal.Signals) -> None:
            self._signal = number
            stop()
            main.cancel()

        def stop() -> None:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal, number)
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
    """End what still runs of an op, and delete all of it; how many there were, and are left."""
    for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
        for task in await _list_all(store, op, status):
            await store.request_cancel(task.task_id, message=f"{op}: the drill is over")
    if await _list_all(store, op, TaskStatus.RUNNING):
        await store.leases.rescue_expired(ops=await store.ops.read())  # as every manager does
    pruned = await store.maintenance.prune(older_than=0.0, op=op)
    return pruned, len(await _list_all(store, op))


async def _list_all(store: TaskStore, op: str, status: TaskStatus | None = None) -> list[Task]:
    found: list[Task] = []
    before: str | None = None
    while True:
        page = await store.list(status=status, op=op, limit=_PAGE, before=before)
        found += page.tasks
        if (before := page.next) is None:
            return found
