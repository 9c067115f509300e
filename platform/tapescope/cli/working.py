"""``tapescope worker``: a manager of the user's program, run until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress

from tapescope.cli.apps import load_manager
from tapescope.cli.exporting import exporting
from tapescope.cli.logs import start_logging
from tapescope.cli.scraping import Scrape
from tapescope.cli.settings import LogFormat, LogLevel
from tapescope.manager.manager import TaskManager
from tapescope_telemetry import Telemetry

__all__ = ["run_worker"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("tapescope")


def run_worker(
    app: str,
    scrape: Scrape,
    *,
    log: tuple[LogFormat | None, LogLevel],
    store: str | None,
    max_running: int | None,
    drain: float | None,
) -> int:
    """Run the app's manager as a worker; gives 0 once all it had was finished or given back.

    Telemetry is set up before the app is imported: its manager tells of itself through the global
    providers, unless the app gave it others. It ends after the manager, so that what the last
    tasks told is sent. ``log`` is the format and the level that were asked for.

    Raises ``BadApp``, ``BadSetting``, ``CannotListen``, and what the store raises.
    """
    with exporting(*scrape.readers):
        manager = load_manager(app)
        manager.reconfigure(store=store, max_running=max_running, drain=drain, work=True)
        log_format, level = log
        if log_format is None and not logging.getLogger().handlers:
            # Neither the user nor the program has said anything of logs.
            log_format = LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON
            start_logging(log_format, level)
        if scrape.readers and manager.telemetry is not Telemetry.shared():
            _log.warning("The app gave its manager a telemetry of its own, which is not scraped.")
        scrape.watch(manager)
        with scrape:
            return asyncio.run(_Worker(manager).run())


class _Worker:
    """A worker process between its start and its end."""

    def __init__(self, manager: TaskManager) -> None:
        self._manager = manager
        self._signals = 0
        self._told = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None

    async def run(self) -> int:
        """Open, work until a signal comes, and close."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._hear)
        opening = asyncio.ensure_future(self._manager.open())
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait([opening, told], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()  # the store is away, and nobody waits for it any more
        with suppress(asyncio.CancelledError):
            await opening
            manager = self._manager
            ops = ", ".join(manager.ops)
            _log.info("Worker %s on %s: %s", manager.owner, manager.store.name, ops)
        await told
        _log.info("Draining: no task is begun any more; a second signal skips the wait.")
        self._closing = asyncio.ensure_future(self._manager.aclose())
        if self._signals > 1:
            self._closing.cancel()
        with suppress(asyncio.CancelledError):  # ours, of the second signal: all is done by then
            await self._closing
        _log.info("The worker has stopped.")
        return 0

    def _hear(self) -> None:
        """The first signal drains, the second one hurries, and the third finds no handler."""
        self._signals += 1
        self._told.set()
        if self._signals > 1:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            if self._closing is not None:
                self._closing.cancel()
