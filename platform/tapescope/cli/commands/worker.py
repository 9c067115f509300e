"""``tapescope worker``: a manager of the user's program, run until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click

from tapescope.cli._load_app import load_manager
from tapescope.cli._options import inherit_store, metrics_host_option, metrics_port_option
from tapescope.cli._settings import LogFormat, choose_log, find_named_store
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.cli._types import NUMBER, WHOLE_NUMBER
from tapescope.manager.manager import TaskManager
from tapescope_telemetry import Telemetry
from tapescope_telemetry.logger import Logger

__all__ = ["worker"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = Logger("tapescope")


@click.command("worker")
@click.pass_context
@click.option(
    "--app",
    required=True,
    metavar="MODULE:NAME",
    help="The TaskManager of your program, as in shop.tasks:manager, or its Ops.",
)
@click.option(
    "--app-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Where its modules are, besides those installed. Default: the current folder, unless "
    "PYTHONSAFEPATH is set.",
)
@click.option(
    "--max-running",
    type=WHOLE_NUMBER,
    metavar="N",
    help="How many tasks run at once. Default: as the manager has it.",
)
@metrics_port_option
@metrics_host_option
@click.option(
    "--drain",
    type=NUMBER,
    metavar="SECONDS",
    help="How long running tasks may go on after a signal. Default: as the manager has it.",
)
@click.option(
    "--store",
    metavar="URL",
    callback=inherit_store,
    help="Work on this store. Default: the manager's own, whatever TAPESCOPE_STORE says; for an "
    "Ops, which has none, TAPESCOPE_STORE.",
)
def worker(
    context: click.Context,
    *,
    app: str,
    app_dir: Path | None,
    max_running: int | None,
    metrics_port: int | None,
    metrics_host: str,
    drain: float | None,
    store: str | None,
) -> int:
    """Run the tasks of a program's registered ops, until a signal.

    After SIGTERM or Ctrl-C the worker starts no more tasks, waits for those that run, gives the
    rest back for other workers, and ends with status 0. A second signal skips the wait, a third one
    ends the worker at once.

    The log goes to stderr, as text on a terminal and as JSON elsewhere, unless --log-format or the
    program says otherwise.
    """
    chosen = context.find_root().params
    log_format, level = choose_log(chosen["log_format"], chosen["log_level"])
    listener = make_listener(metrics_host, metrics_port)
    # Telemetry is set up before the app is imported: its manager uses the global providers, unless
    # the app gave it others. It ends after the manager, so that what the last tasks emit is sent.
    with exporting(*listener.readers):
        manager = load_manager(app, app_dir, find_named_store(store))
        manager.reconfigure(store=store, max_running=max_running, drain=drain, work=True)
        if log_format is None and not logging.getLogger().handlers:
            # Neither the user nor the program has configured a log.
            from tapescope.cli._logging import start_logging

            start_logging(LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON, level)
        if listener.readers and manager.telemetry is not Telemetry.shared():
            _log.warning("The app gave its manager its own telemetry, which is not scraped.")
        listener.watch(manager)
        with listener:
            asyncio.run(_Worker(manager).run())
    return 0


class _Worker:
    """A worker process between its start and its end."""

    def __init__(self, manager: TaskManager) -> None:
        self._manager = manager
        self._signals = 0
        self._signalled = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Open, work until a signal comes, and close."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        opening = asyncio.ensure_future(self._manager.open())
        signalled = asyncio.ensure_future(self._signalled.wait())
        await asyncio.wait([opening, signalled], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()  # the store is away, and the worker waits for it no more
        with suppress(asyncio.CancelledError):
            await opening
            manager = self._manager
            ops = ", ".join(manager.ops)
            _log.info("Worker %s on %s: %s", manager.owner, manager.store.name, ops)
        await signalled
        _log.info("Draining: no more tasks are started; a second signal skips the wait.")
        self._closing = asyncio.ensure_future(self._manager.aclose())
        if self._signals > 1:
            loop.call_soon(self._closing.cancel)  # once it has begun: else it would close nothing
        with suppress(asyncio.CancelledError):  # the one of the second signal: all is done by then
            await self._closing
        _log.info("The worker has stopped.")

    def _on_signal(self) -> None:
        """The first signal drains, the second skips the drain, and the third finds no handler."""
        self._signals += 1
        self._signalled.set()
        if self._signals > 1:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            if self._closing is not None:
                asyncio.get_running_loop().call_soon(self._closing.cancel)
