"""Options and arguments that more than one command has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tapescope.cli._completion import complete_op, complete_task
from tapescope.cli._types import NUMBER, WHOLE_NUMBER

__all__ = [
    "METRICS_PORT",
    "PORT",
    "app_dir_option",
    "drain_option",
    "engine_option",
    "inherit_store",
    "json_option",
    "metrics_host_option",
    "metrics_port_option",
    "op_option",
    "server_option",
    "source_options",
    "store_option",
    "task_argument",
    "tasks_argument",
    "wait_option",
    "wide_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])

METRICS_PORT = "--metrics-port"
PORT = "--port"


def inherit_store(context: click.Context, _: click.Parameter, store: str | None) -> str | None:
    """The ``--store`` of the command itself, else the one that stands before its name."""
    named: str | None = store or (context.obj and context.obj.store)
    return named


def inherit_server(context: click.Context, _: click.Parameter, server: str | None) -> str | None:
    """The ``--server`` of the command itself, else the one that stands before its name."""
    named: str | None = server or (context.obj and context.obj.server)
    return named


store_option = click.option(
    "--store",
    metavar="URL",
    callback=inherit_store,
    help="Where the tasks are: sqlite:///tasks.db or "
    "postgresql://user@host/db?schema=tapescope. Default: TAPESCOPE_STORE, else a SQLite file "
    "in your data folder.",
)
server_option = click.option(
    "--server",
    metavar="URL",
    callback=inherit_server,
    help="Ask this 'tapescope serve' in the place of a store: https://tasks.example. Default: "
    "TAPESCOPE_SERVER. The token is read of TAPESCOPE_TOKEN.",
)


def source_options(command: Command) -> Command:
    """``--store`` and ``--server``, for what works on either."""
    return store_option(server_option(command))


metrics_port_option = click.option(
    METRICS_PORT,
    type=WHOLE_NUMBER,
    metavar="PORT",
    help="Serve /metrics, /livez and /readyz on this port while the command runs; 0 takes a "
    "free port.",
)
metrics_host_option = click.option(
    "--metrics-host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="The address of that port. No password is asked for: name another address only in a "
    "network that you trust.",
)
app_dir_option = click.option(
    "--app-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Where its modules are, besides those installed. Default: the current folder, unless "
    "PYTHONSAFEPATH is set.",
)
drain_option = click.option(
    "--drain",
    type=NUMBER,
    metavar="SECONDS",
    help="How long running tasks may go on after a signal. Default: as the manager has it.",
)
wide_option = click.option(
    "--wide", is_flag=True, help="Print whole ids and values, however wide the terminal is."
)
engine_option = click.option(
    "--engine",
    metavar="URL",
    help="What brings tasks to workers besides their own claims: temporal://HOST:PORT/NAMESPACE. "
    "Default: TAPESCOPE_ENGINE.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
op_option = click.option(
    "--op", metavar="OP", shell_complete=complete_op, help="Only tasks of this op."
)
task_argument = click.argument(
    "task_id",
    shell_complete=complete_task,
    help="The id of a task: whole, as 'tapescope list' shows it, or a beginning that no other "
    "id has.",
)
tasks_argument = click.argument(
    "task_ids",
    nargs=-1,
    metavar="[TASK_ID]...",
    shell_complete=complete_task,
    help="Ids of tasks: whole, as 'tapescope list' shows them, or beginnings that no other ids "
    "have.",
)
wait_option = click.option(
    "--wait",
    is_flag=True,
    help="Wait until the task ends, and print its result; the exit status is 1 if it does not "
    "succeed.",
)
