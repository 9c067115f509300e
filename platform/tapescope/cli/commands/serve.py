"""``tapescope serve``: the HTTP API of a program's manager, or of a store, until a signal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapescope.cli._environment import collect_no_program
from tapescope.cli._load_app import load_manager
from tapescope.cli._options import PORT, app_dir_option, drain_option, inherit_store
from tapescope.cli._output import say
from tapescope.cli._service import EndSignals, start_service_log
from tapescope.cli._settings import choose_log, find_named_engine, find_named_store
from tapescope.cli._store import choose_store
from tapescope.cli._telemetry import exporting
from tapescope.cli._tokens import TOKENS, open_tokens, tokens_option
from tapescope.cli._types import WHOLE_NUMBER
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

_log = Logger("tapescope")


@click.command("serve")
@click.pass_context
@click.option(
    "--app",
    metavar="MODULE:NAME",
    help="The TaskManager of your program, as in shop.tasks:manager, or its Ops: its tasks are run "
    "here, too. Default: none, and the tasks of an existing store are served.",
)
@app_dir_option
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
    "--trace-url",
    metavar="URL",
    help="Where your tool for traces shows one, with {trace_id} in it, and {span_id} if it takes "
    "that, too: the pages link there.",
)
@drain_option
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
    trace_url: str | None,
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
    from tapescope.http.api.trace_urls import check_trace_url

    if trace_url is not None:
        trace_url = check_trace_url("--trace-url", trace_url)
    file = _find_tokens(host, tokens)
    chosen = context.find_root().params
    log_format, level = choose_log(chosen["log_format"], chosen["log_level"])
    reader = _make_reader()
    with exporting(*(() if reader is None else (reader,))):
        served: TaskStore | None = None
        if app is None:
            served = find_store(choose_store(store))
            served.open_mode = OpenMode.EXISTING
            manager = TaskManager(served, work=False, engine=find_named_engine(None))
        else:
            manager = load_manager(app, app_dir, find_named_store(store))
            manager.reconfigure(store=store, engine=find_named_engine(None))
        manager.reconfigure(drain=drain)
        start_service_log(log_format, level)
        api = make_app(manager, tokens=file, metrics=reader, trace_url=trace_url)
        server = ApiServer(api, host, port, root_path=root_path, trusted_proxies=trusted_proxies)
        asyncio.run(_serve(manager, served, server))
    return 0


def _find_tokens(host: str, option: Path | None) -> TokenFile:
    """The file of tokens. Raises ``BadTokenFile``, and ``BadSetting`` where the host takes some."""
    from tapescope.http.tokens import BadTokenFile
    from tapescope.model.addresses import is_loopback

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


async def _serve(manager: TaskManager, store: TaskStore | None, server: ApiServer) -> None:
    """Open, answer until a signal comes, and close; ``store`` is the manager's where it is opened
    here. Raises ``CannotListen``."""
    signals = EndSignals(server.hurry)
    server.listen()
    try:
        if await signals.race(_open(manager, store, server)):  # else no more is waited
            collect_no_program()
            say(f"tasks of {manager.store.name} on {server.url}")
            serving = asyncio.ensure_future(server.serve())
            signalled = asyncio.ensure_future(signals.wait())
            await asyncio.wait([serving, signalled], return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            _log.info(
                "Draining: requests are refused, streams end; a second signal skips the wait."
            )
            server.drain()
            await serving
    finally:
        server.close()
        await signals.close(_close(manager, store))
    _log.info("The server has stopped.")


async def _open(manager: TaskManager, store: TaskStore | None, server: ApiServer) -> None:
    await server.prepare()  # before the manager works, and tells of it
    if store is not None:
        await store.open()
    await manager.open()


async def _close(manager: TaskManager, store: TaskStore | None) -> None:
    try:
        await manager.aclose()
    finally:
        if store is not None:
            await store.aclose()
