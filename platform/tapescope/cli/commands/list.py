"""``tapescope list``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from tapescope.cli._options import JsonOption, OpOption, StoreOption
from tapescope.cli._output import on_terminal, print_json, print_line
from tapescope.cli._rendering import print_table
from tapescope.cli._store import choose_store, find_task_id, open_store
from tapescope.errors import BadOp
from tapescope.model.json_shapes import list_shape
from tapescope.model.tasks import Task, TaskPage, TaskStatus, is_op
from tapescope.model.times import format_time

__all__ = ["list_tasks"]


def list_tasks(
    status: Annotated[
        TaskStatus | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only tasks with this status: pending, running, succeeded, failed or cancelled.",
        ),
    ] = None,
    op: OpOption = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="The most tasks to list.")
    ] = 50,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="TASK_ID", help="Only tasks older than this one: the next page."
        ),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List tasks, newest first."""
    url = choose_store(store)
    if op is not None and not is_op(op):
        raise BadOp(op)
    page, name = asyncio.run(_read(url, status, op, limit, before))
    if as_json:
        print_json(list_shape(page) | {"store": name})
    else:
        _print_tasks(page, terminal=on_terminal())


async def _read(
    url: str, status: TaskStatus | None, op: str | None, limit: int, before: str | None
) -> tuple[TaskPage, str]:
    """A page of tasks, and the name of the store that it was read from."""
    async with open_store(url) as store:
        older_than = None if before is None else await find_task_id(store, before)
        page = await store.list(status=status, op=op, limit=limit, before=older_than)
        return page, store.name


def _print_tasks(page: TaskPage, *, terminal: bool) -> None:
    """A page of tasks, and how to get the next."""
    if not page.tasks and terminal:
        print_line("No tasks. Make one: tapescope run -- echo hello")
        return
    print_table(
        ("task_id", "op", "status", "attempt", "created", "took", "error"),
        [_task_row(task) for task in page.tasks],
        terminal=terminal,
        styled=2,
    )
    if page.next is not None and terminal:
        print_line(f"More: --before {page.next}")


def _task_row(task: Task) -> tuple[str, ...]:
    took = ""
    if task.finished_us is not None:
        began = task.claimed_us if task.claimed_us is not None else task.created_us
        took = f"{(task.finished_us - began) / 1e6:.3f} s"
    return (
        task.task_id,
        task.op,
        task.status.value,
        str(task.attempt),
        format_time(task.created_us),
        took,
        task.error_code or "",
    )
