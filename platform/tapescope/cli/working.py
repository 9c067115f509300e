"""``tapescope worker``: a manager of the user's program, run until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from tapescope.cli.apps import load_manager
from tapescope.cli.output import say
from tapescope.manager import TaskManager

__all__ = ["run_worker"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Lines(logging.Handler):
    """Log records as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def run_worker(app: str, *, store: str | None, max_running: int | None, drain: float | None) -> int:
    """Run the app's manager as a worker; gives 0 once all it had was finished or given back.

    Raises ``BadApp``, ``BadSetting``, and what the store raises.
    """
    manager = load_manager(app)
    manager.reconfigure(store=store, max_running=max_running, drain=drain, work=True)
    log = logging.getLogger("tapescope")
    if not log.isEnabledFor(logging.INFO) and not logging.getLogger().handlers:
        log.addHandler(_Lines())  # the program has said nothing of logs: people read ours here
        log.setLevel(logging.INFO)
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
            say(f"worker {manager.owner} on {manager.store.name}: {', '.join(manager.ops)}")
        await told
        say("draining: no task is begun any more; a second signal skips the wait")
        self._closing = asyncio.ensure_future(self._manager.aclose())
        if self._signals > 1:
            self._closing.cancel()
        with suppress(asyncio.CancelledError):  # ours, of the second signal: all is done by then
            await self._closing
        say("stopped")
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
