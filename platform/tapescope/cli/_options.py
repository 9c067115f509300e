"""Options and arguments that more than one command has."""

from __future__ import annotations

from typing import Annotated

import typer

from tapescope.cli._completion import complete_op, complete_task

__all__ = [
    "METRICS_PORT",
    "JsonOption",
    "MetricsHostOption",
    "MetricsPortOption",
    "OpOption",
    "StoreOption",
    "TaskArgument",
    "TasksArgument",
    "WaitOption",
    "WideOption",
    "inherit_store",
]

METRICS_PORT = "--metrics-port"


def inherit_store(context: typer.Context, store: str | None) -> str | None:
    """The ``--store`` of the command itself, else the one that stands before its name."""
    named: str | None = store or context.obj
    return named


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        callback=inherit_store,
        help="Where the tasks are: sqlite:///tasks.db or "
        "postgresql://user@host/db?schema=tapescope. Default: TAPESCOPE_STORE, else a SQLite file "
        "in your data folder.",
        show_default=False,
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        METRICS_PORT,
        metavar="PORT",
        help="Serve /metrics, /livez and /readyz on this port while the command runs; 0 takes a "
        "free port.",
        show_default=False,
    ),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        "--metrics-host",
        metavar="ADDRESS",
        help="The address of that port. No password is asked for: name another address only in a "
        "network that you trust.",
    ),
]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Print whole ids and values, however wide the terminal is.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
OpOption = Annotated[
    str | None,
    typer.Option("--op", metavar="OP", help="Only tasks of this op.", autocompletion=complete_op),
]
TaskArgument = Annotated[
    str,
    typer.Argument(
        metavar="TASK_ID",
        autocompletion=complete_task,
        help="The id of a task: whole, as 'tapescope list' shows it, or a beginning that no other "
        "id has.",
    ),
]
TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TASK_ID",
        autocompletion=complete_task,
        help="Ids of tasks: whole, as 'tapescope list' shows them, or beginnings that no other ids "
        "have.",
        show_default=False,
    ),
]
WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait until the task ends, and print its result; the exit status is 1 if it does not "
        "succeed.",
    ),
]
