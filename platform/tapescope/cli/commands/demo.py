"""``tapescope demo``."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tapescope.cli._options import PORT, inherit_store
from tapescope.cli._output import make_printable, on_terminal, print_line
from tapescope.cli._progress import make_board
from tapescope.cli._rendering import TapeLines
from tapescope.cli._service import EndSignals
from tapescope.cli._store import file_url
from tapescope.cli._table import Column, print_table
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.errors import BadSetting
from tapescope.model.tasks import TaskStatus
from tapescope.model.wording import shorten_id
from tapescope.program import run_main
from tapescope.store.lookup import find_store, hide_password

if TYPE_CHECKING:
    from tapescope.demo import DemoSummary

__all__ = ["demo"]

_OUTCOMES: Final = (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED)


@click.command("demo")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The folder whose files are hashed. Default: Python's standard library.",
)
@click.option(
    "--store",
    metavar="URL",
    callback=inherit_store,
    help="Run on this store. Default: a new SQLite file in a temporary folder, whatever "
    "TAPESCOPE_STORE says.",
)
@click.option(
    "--serve",
    is_flag=True,
    help="Show the tasks on a page for browsers; they go on arriving, until a signal.",
)
@click.option(
    PORT,
    type=WHOLE_NUMBER,
    default=8470,
    metavar="PORT",
    help="The port of that page, on this machine alone; 0 takes a free port.",
)
def demo(*, folder: Path | None, store: str | None, serve: bool, port: int) -> int:
    """Run a real workload, and print what became of each task.

    The tasks hash files and run shell commands. Some succeed, some fail, some are cancelled or
    report too late. The exit status is 0 when every event is accounted for.
    """
    hashed = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    if not hashed.is_dir():
        raise BadSetting("--folder", str(hashed), "a folder that this user may read")
    url = store or file_url(Path(tempfile.mkdtemp(prefix="tapescope-demo-")) / "tasks.db")
    if serve:
        asyncio.run(_serve(hashed, url, port))
        return 0
    summary = run_main(_run(hashed, url))
    _print_summary(summary, url)
    return 0 if summary.adds_up else 1


async def _serve(folder: Path, url: str, port: int) -> None:
    """Run the tasks over and over, and show them, until a signal. Raises ``CannotListen``."""
    from tapescope.demo import find_files, make_manager, run_endless
    from tapescope.http.api import ApiServer, make_app

    store = find_store(url)
    manager = make_manager(store)
    server = ApiServer(make_app(manager), "127.0.0.1", port)
    server.listen()
    signals = EndSignals(server.hurry)
    try:
        async with store, manager:
            print_line("Tasks arrive on the store")
            print_line(make_printable(store.name))
            print_line(f"Watch them in a browser: {server.url}/  (Ctrl-C ends it)")
            serving = asyncio.ensure_future(server.serve())
            arriving = asyncio.ensure_future(run_endless(manager, find_files(folder)))
            signalled = asyncio.ensure_future(signals.wait())
            await asyncio.wait([serving, arriving, signalled], return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            arriving.cancel()
            server.drain()
            await serving
            with suppress(asyncio.CancelledError):  # the one of above; all else is raised
                await arriving
    finally:
        server.close()


async def _run(folder: Path, url: str) -> DemoSummary:
    from tapescope.demo import find_files, read_summary, run_jobs

    async with find_store(url) as store:
        file_set = find_files(folder)
        limited = "" if file_set.complete else " (as many as a demo takes)"
        print_line(
            f"Hashing {len(file_set.files):,} files of {make_printable(str(folder))}{limited},"
        )
        print_line("running commands, failing and cancelling, on the store")
        print_line(make_printable(store.name))
        with make_board(terminal=on_terminal()) as board:
            task_ids = await run_jobs(store, file_set, board)
        return await read_summary(store, task_ids)


def _print_summary(summary: DemoSummary, url: str) -> None:
    terminal = on_terminal()
    print_line("")
    _print_outcomes(summary, terminal=terminal)
    print_line("")
    _print_drops(summary, terminal=terminal)
    print_line("")
    _print_counts(summary)
    if summary.failed_tape is not None:
        print_line("")
        print_line(f"The tape of {summary.failed_tape.task_id}:")
        lines = TapeLines(terminal=terminal)
        for event in summary.failed_tape.events:
            lines.print_event(event)
    print_line("")
    _print_commands(summary, url)


def _print_outcomes(summary: DemoSummary, *, terminal: bool) -> None:
    counts = Counter((task.op, task.status) for task in summary.tasks)
    rows = [
        (op, *(str(counts[op, status]) for status in _OUTCOMES))
        for op in sorted({task.op for task in summary.tasks})
    ]
    totals = Counter(task.status for task in summary.tasks)
    rows.append(("all", *(str(totals[status]) for status in _OUTCOMES)))
    columns = [Column(name) for name in ("op", *_OUTCOMES)]
    print_table(columns, rows, terminal=terminal)


def _print_drops(summary: DemoSummary, *, terminal: bool) -> None:
    ops = {task.task_id: task.op for task in summary.tasks}
    counts: Counter[tuple[str, str, str]] = Counter()
    latest: dict[tuple[str, str, str], float] = {}
    for drop in summary.drops:
        kind = (ops[drop.task_id], drop.type, drop.reason.value)
        counts[kind] += 1
        latest[kind] = max(latest.get(kind, 0.0), drop.late_s or 0.0)
    rows = [(*kind, str(count), f"{latest[kind]:.3f} s") for kind, count in sorted(counts.items())]
    print_line("Dropped events: too late for their tape, so refused, counted and kept")
    columns = [Column(name) for name in ("op", "event", "reason", "count", "latest")]
    print_table(columns, rows, terminal=terminal)


def _print_counts(summary: DemoSummary) -> None:
    counted = summary.counted
    print_line("offered = stored + dropped + failed")
    print_line(
        f"{counted.offered:,} = {counted.stored:,} + {counted.dropped:,} + {counted.failed:,}   "
        f"(unaccounted: {counted.unaccounted})"
    )
    print_line(
        f"read back from the store: {summary.stored:,} events on tapes, {summary.dropped:,} dropped"
    )
    if not summary.adds_up:
        print_line("THIS DOES NOT ADD UP: please report it")


def _print_commands(summary: DemoSummary, url: str) -> None:
    command, option = _name_program(), f"--store {shlex.quote(hide_password(url))}"
    print_line("Look at more of it:")
    print_line(f"  {command} list {option}")
    print_line(f"  {command} tape {shorten_id(summary.tasks[-1].task_id)} {option}")
    if summary.drops:
        print_line(f"  {command} drops {shorten_id(summary.drops[0].task_id)} {option}")
    print_line(f"Watch such tasks in a browser: {command} demo --serve")


def _name_program() -> str:
    """What a shell in this folder takes for this program: its name, if it is on the PATH."""
    if shutil.which("tapescope") is not None:
        return "tapescope"
    beside = Path(sys.executable).with_name("tapescope")
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m tapescope.cli"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
