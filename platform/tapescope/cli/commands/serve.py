"""``tapescope serve``: the HTTP API of a program's manager, or of a store, until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapescope.cli._load_app import load_manager
from tapescope.cli._options import PORT, inherit_store
from tapescope.cli._output import say
from tapescope.cli._settings import LogFormat, choose_log, find_named_store
from tapescope.cli._store import choose_store
from tapescope.cli._telemetry import exporting
from tapescope.cli._tokens import TOKENS, open_tokens, tokens_option
from tapescope.cli._types import NUMBER, WHOLE_NUMBER
from tapescope.errors import BadSetting
from tapescope.manager.manager import TaskManager
from tapescope.store.lookup import find_store
from tapescope.store.opening import OpenMode
from tapescope_telemetry.errors import MissingTelemetryExtra
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.http.api import ApiServer
    from tapescope.http.tokens import TokenFile
    from tapescope.store.port import TaskStore
    from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["serve"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = Logger("tapescope")


@click.command("serve")
@click.pass_context
@click.option(
    "--app",
    metavar="MODULE:NAME",
    help="The TaskManager of your program, as in shop.tasks:manager, or its Ops: its tasks are run "
    "here, too. Default: none, and the tasks of an existing store are served.",
)
@click.option(
    "--app-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Where its modules are, besides those installed. Default: the current folder, unless "
    "PYTHONSAFEPATH is set.",
)
@click.option(
    PORT, type=WHOLE_NUMBER, default=8470, metavar="PORT", help="The port; 0 takes a free port."
)
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="The address of that port. Another one than this machine's own takes tokens.",
)
@tokens_option
@click.option(
    "--root-path",
    default="",
    show_default=False,
    metavar="PATH",
    help="What a proxy in front takes off the path, as in /tasks.",
)
@click.option(
    "--trusted-proxies",
    default="127.0.0.1,::1",
    metavar="ADDRESSES",
    help="Proxies whose word counts on where a request is from; networks, too, with commas.",
)
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
    help="Serve this store. Default: the one of the app's manager; with no app, or for an Ops, "
    "TAPESCOPE_STORE, else a SQLite file in your data folder.",
)
def serve(
    context: click.Context,
    *,
    app: str | None,
    app_dir: Path | None,
    port: int,
    host: str,
    tokens: Path | None,
    root_path: str,
    trusted_proxies: str,
    drain: float | None,
    store: str | None,
) -> int:
    """Serve tasks, tapes and live streams over HTTP, until a signal.

    With no app: read, cancel and audit what is in a store, and submit the ops that its workers have
    registered. Without tokens only requests of this machine are answered.

    After SIGTERM or Ctrl-C streams are ended with a reason, running tasks may go on for a while,
    the rest is given back, and the status is 0. A second signal skips the wait, a third one ends
    the server at once.
    """
    from tapescope.http.api import ApiServer, make_app

    file = _find_tokens(host, tokens)
    chosen = context.find_root().params
    log_format, level = choose_log(chosen["log_format"], chosen["log_level"])
    reader = _make_reader()
    with exporting(*(() if reader is None else (reader,))):
        served: TaskStore | None = None
        if app is None:
            served = find_store(choose_store(store))
            served.open_mode = OpenMode.EXISTING
            manager = TaskManager(served, work=False)
        else:
            manager = load_manager(app, app_dir, find_named_store(store))
            manager.reconfigure(store=store)
        manager.reconfigure(drain=drain)
        if log_format is None and not logging.getLogger().handlers:
            # Neither the user nor the program has configured a log.
            from tapescope.cli._logging import start_logging

            start_logging(LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON, level)
        api = make_app(manager, tokens=file, metrics=reader)
        server = ApiServer(api, host, port, root_path=root_path, trusted_proxies=trusted_proxies)
        asyncio.run(_Serving(manager, served, server).run())
    return 0


def _find_tokens(host: str, option: Path | None) -> TokenFile:
    """The file of tokens. Raises ``BadTokenFile``, and ``BadSetting`` where the host takes some."""
    from tapescope.http.access import is_loopback
    from tapescope.http.tokens import BadTokenFile

    file = open_tokens(option)
    known = file.read()
    if option is not None and not file.path.exists():
        raise BadTokenFile(option, "there is none; 'tapescope token add' makes it")
    if not known and not is_loopback(host):
        raise BadSetting(
            "--host",
            host,
            "this machine's own, such as 127.0.0.1, until there is a token: make one with "
            f"'tapescope token add NAME --scope read', in {file.path} or the file of {TOKENS}",
        )
    return file


def _make_reader() -> PrometheusReader | None:
    """What reads the metrics for ``/metrics``; ``None`` where that is not installed."""
    try:
        from tapescope_telemetry.prometheus import PrometheusReader
    except MissingTelemetryExtra:
        return None
    return PrometheusReader()


class _Serving:
    """A server process between its start and its end."""

    def __init__(self, manager: TaskManager, store: TaskStore | None, server: ApiServer) -> None:
        """``store`` is the manager's where this process opens it."""
        self._manager = manager
        self._store = store
        self._server = server
        self._signals = 0
        self._signalled = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Open, answer until a signal comes, and close. Raises ``CannotListen``."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        self._server.listen()
        signalled = asyncio.ensure_future(self._signalled.wait())
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.wait([opening, signalled], return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                await opening
                await self._serve(signalled)
            else:
                opening.cancel()  # the store is away, and the server waits for it no more
                with suppress(asyncio.CancelledError):
                    await opening
        finally:
            signalled.cancel()
            self._server.close()
            self._closing = asyncio.ensure_future(self._close())
            if self._signals > 1:
                loop.call_soon(self._closing.cancel)  # once it has begun
            with suppress(asyncio.CancelledError):  # of the second signal: all is done by then
                await self._closing
        _log.info("The server has stopped.")

    async def _open(self) -> None:
        if self._store is not None:
            await self._store.open()
        await self._manager.open()

    async def _serve(self, signalled: asyncio.Future[Any]) -> None:
        say(f"tasks of {self._manager.store.name} on {self._server.url}")
        serving = asyncio.ensure_future(self._server.serve())
        await asyncio.wait([serving, signalled], return_when=asyncio.FIRST_COMPLETED)
        _log.info("Draining: requests are refused, streams end; a second signal skips the wait.")
        self._server.drain()
        await serving

    async def _close(self) -> None:
        try:
            await self._manager.aclose()
        finally:
            if self._store is not None:
                await self._store.aclose()

    def _on_signal(self) -> None:
        """The first signal drains, the second skips the drain, and the third finds no handler."""
        self._signals += 1
        self._signalled.set()
        if self._signals > 1:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._server.hurry()
            if self._closing is not None:
                asyncio.get_running_loop().call_soon(self._closing.cancel)  # once it has begun
