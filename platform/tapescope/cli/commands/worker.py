"""``tapescope worker``: a manager of the user's program, run until a signal ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from tapescope.cli._environment import collect_no_program
from tapescope.cli._load_app import load_manager
from tapescope.cli._options import (
    METRICS_PORT,
    app_dir_option,
    drain_option,
    engine_option,
    inherit_store,
    metrics_host_option,
    metrics_port_option,
)
from tapescope.cli._output import say
from tapescope.cli._service import EndSignals, start_service_log
from tapescope.cli._settings import choose_log, find_named_engine, find_named_store
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.manager.manager import TaskManager
from tapescope_telemetry import Telemetry
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.cli._processes import ParentLine

__all__ = ["worker"]

_log = Logger("tapescope")

_PROCESSES: Final = "--processes"
_MOST: Final = 256
_LAST_PORT: Final = 65_535


def _check_processes(_: click.Context, __: click.Parameter, processes: int) -> int:
    if not 1 <= processes <= _MOST:
        raise click.BadParameter(f"{processes} is not a number from 1 to {_MOST}")
    return processes


@click.command("worker")
@click.pass_context
@click.option(
    "--app",
    required=True,
    metavar="MODULE:NAME",
    help="The TaskManager of your program, as in shop.tasks:manager, or its Ops.",
)
@app_dir_option
@click.option(
    "--op",
    "ops",
    multiple=True,
    metavar="NAME",
    help="Take tasks of this op alone; may be given several times. Default: as the manager has it, "
    "else of all its ops.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Take tasks from this queue alone; may be given several times. Default: as the manager "
    "has it, else from all.",
)
@click.option(
    "--max-running",
    type=WHOLE_NUMBER,
    metavar="N",
    help="How many tasks run at once, in each process. Default: as the manager has it.",
)
@click.option(
    _PROCESSES,
    type=WHOLE_NUMBER,
    default=1,
    metavar="N",
    callback=_check_processes,
    help="Have this many processes work, and start another where one dies. The number of "
    "--max-running is of each; with --metrics-port they listen on PORT, PORT+1 and so on.",
)
@click.option(
    "--parent-line",
    type=WHOLE_NUMBER,
    hidden=True,
    help="Of a process of --processes: the descriptor of its line to the parent.",
)
@metrics_port_option
@metrics_host_option
@drain_option
@engine_option
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
    ops: tuple[str, ...],
    queues: tuple[str, ...],
    max_running: int | None,
    processes: int,
    parent_line: int | None,
    metrics_port: int | None,
    metrics_host: str,
    drain: float | None,
    engine: str | None,
    store: str | None,
) -> int:
    """Run the tasks of a program's registered ops, until a signal.

    After SIGTERM or Ctrl-C the worker starts no more tasks, waits for those that run, gives the
    rest back for other workers, and ends with status 0. A second signal skips the wait, a third one
    ends the worker at once. With --processes each of them is handed these signals.

    The log goes to stderr, as text on a terminal and as JSON elsewhere, unless --log-format or the
    program says otherwise.
    """
    chosen = context.find_root().params
    log_format, level = choose_log(chosen["log_format"], chosen["log_level"])
    if processes > 1:
        start_service_log(log_format, level)
        return _supervise(context, processes, metrics_port)
    parent = None
    if parent_line is not None:
        from tapescope.cli._processes import ParentLine

        parent = ParentLine(parent_line)
    listener = make_listener(metrics_host, metrics_port)
    # Telemetry is set up before the app is imported: its manager uses the global providers, unless
    # the app gave it others. It ends after the manager, so that what the last tasks emit is sent.
    with exporting(*listener.readers):
        manager = load_manager(app, app_dir, find_named_store(store))
        manager.reconfigure(
            store=store,
            max_running=max_running,
            drain=drain,
            work=True,
            engine=find_named_engine(engine),
        )
        _choose(manager, ops, queues)
        start_service_log(log_format, level)
        if listener.readers and manager.telemetry is not Telemetry.shared():
            _log.warning("The app gave its manager its own telemetry, which is not scraped.")
        listener.watch(manager)
        with listener:
            asyncio.run(_work(manager, parent))
    return 0


def _supervise(context: click.Context, processes: int, metrics_port: int | None) -> int:
    """Have so many processes run this command; the exit status. Raises a usage error."""
    from tapescope.cli._processes import Supervisor, find_program

    if metrics_port and metrics_port + processes - 1 > _LAST_PORT:
        raise click.BadParameter(
            f"{metrics_port} leaves no port for each of {processes} processes: the last port is "
            f"{_LAST_PORT}",
            param_hint=METRICS_PORT,
        )
    program, words = find_program(_PROCESSES), _list_words(context)

    def command(number: int) -> Sequence[str]:
        port = [f"{METRICS_PORT}={metrics_port + number}"] if metrics_port else []
        return (*program, *words, *port)  # of two ports the last one counts

    try:
        return asyncio.run(Supervisor(processes, command).run())
    except OSError as error:
        say(f"no worker process can be started: {error.strerror}")
        return 1


def _list_words(context: click.Context) -> Sequence[str]:
    """The words of the command line again, without ``--processes``."""
    words: list[str] = []
    for one in (context.find_root(), context):
        if one is context:
            words.append("worker")
        for param in one.command.params:
            name = str(param.name)
            value = one.params.get(name)
            told = one.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if told and value is not None and _PROCESSES not in param.opts:
                values = value if param.multiple else [value]
                words += [f"{param.opts[0]}={each}" for each in values]
    return words


def _choose(manager: TaskManager, ops: Sequence[str], queues: Sequence[str]) -> None:
    """Have the manager take tasks of these ops and queues alone. Raises a usage error."""
    if unknown := sorted(set(ops) - set(manager.ops)):
        has = ", ".join(manager.ops) or "none"
        raise click.BadParameter(
            f"{', '.join(unknown)} is not an op of the program, which has: {has}",
            param_hint="--op",
        )
    manager.reconfigure(work_ops=ops or None, queues=queues or None)


async def _work(manager: TaskManager, parent: ParentLine | None) -> None:
    """Open, work until a signal comes, and close."""
    signals = EndSignals()
    if parent is not None:
        parent.watch()
    if await signals.race(manager.open()):  # else the store is away, and is waited for no more
        collect_no_program()
        told = ", ".join(manager.work_ops)
        if manager.queues is not None:
            told += f"; from the queues {', '.join(manager.queues)}"
        _log.info("Worker %s on %s: %s", manager.owner, manager.store.name, told)
        if parent is not None:
            parent.tell_works()
    await signals.wait()
    _log.info("Draining: no more tasks are started; a second signal skips the wait.")
    await signals.close(manager.aclose())
    _log.info("The worker has stopped.")
