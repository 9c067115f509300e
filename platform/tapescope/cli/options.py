"""Options that more than one command has."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "JsonOption",
    "MetricsHostOption",
    "MetricsPortOption",
    "StoreOption",
    "TaskArgument",
    "WaitOption",
]

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where the tasks are: sqlite:///tasks.db, postgresql://user@host/db?schema=tapescope. "
        "Default: TAPESCOPE_STORE, else a file in your data folder.",
        show_default=False,
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        help="Serve /metrics, /livez and /readyz on this port meanwhile; 0 takes a free one.",
        show_default=False,
    ),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        "--metrics-host",
        metavar="ADDRESS",
        help="Where to serve them. Nobody is asked for a password: name another only where that "
        "is well.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK_ID", help="A task id, or the beginning of only one.")
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait", help="Wait for its end and print its result; status 1 if it fails."),
]
