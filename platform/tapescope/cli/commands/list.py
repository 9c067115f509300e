"""``tapescope list``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from tapescope.cli._completion import complete_task
from tapescope.cli._filters import Wanted, task_filters
from tapescope.cli._options import json_option, source_options, wide_option
from tapescope.cli._output import on_terminal, print_json, print_line
from tapescope.cli._rendering import show_status
from tapescope.cli._source import Place, choose_place
from tapescope.cli._table import Cell, Column, print_table
from tapescope.cli._task_ids import find_task_id
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.cli._wording import (
    PARKED,
    UNKNOWN,
    format_took,
    name_status,
    now_us,
    waits_for_workers,
)
from tapescope.model.json_shapes import list_shape
from tapescope.model.tasks import Task, TaskPage
from tapescope.model.times import format_time
from tapescope.model.wording import format_age, name_error, shorten_id
from tapescope.program import run_main

__all__ = ["list_tasks"]

_COLUMNS: Final = (
    Column("task"),
    Column("op", shrinks_to=8),
    Column("outcome"),
    Column("age"),
    Column("took"),
    Column("error", shrinks_to=8),
)
_WIDE: Final = ("task_id", "op", "status", "attempt", "created", "took", "error")


@click.command("list")
@task_filters(with_failed=True)
@click.option("--limit", type=WHOLE_NUMBER, default=50, metavar="N", help="The most tasks to list.")
@click.option(
    "--before",
    metavar="TASK_ID",
    shell_complete=complete_task,
    help="Only tasks older than this one: the next page.",
)
@wide_option
@json_option
@source_options
def list_tasks(
    *,
    wanted: Wanted,
    limit: int,
    before: str | None,
    wide: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """List tasks, newest first.

    A running task whose process has ended, or whose lease is over, is shown as lost.
    """
    place = choose_place(store, server)
    look = _read(place, wanted, limit, before, params=as_json)
    page, lost, paused, name = run_main(look)
    if as_json:
        shape: dict[str, Any] = {**list_shape(page), "store": name}
        for task in shape["tasks"]:
            task["lost"] = lost.get(task["task_id"])
        print_json(shape)
    else:
        _print_tasks(page, lost, paused, filtered=wanted.given, wide=wide)


async def _read(
    place: Place, wanted: Wanted, limit: int, before: str | None, *, params: bool
) -> tuple[TaskPage, dict[str, str], Sequence[str], str]:
    """A page of tasks, those that are lost, the ops of those that wait for a resume, and the name
    of where it was read."""
    async with place.open() as source:
        older_than = None if before is None else await find_task_id(source, before)
        wanted = await wanted.with_whole_ids(source)
        page = await wanted.read_page(source, limit, older_than, params=params)
        waiting = {task.op for task in page.tasks if waits_for_workers(task)}
        told = waiting and not params  # JSON has no notes
        paused = sorted(waiting & (await source.read_pauses()).keys()) if told else []
        return page, source.find_lost(page.tasks), paused, source.name


def _print_tasks(
    page: TaskPage,
    lost: Mapping[str, str],
    paused: Sequence[str],
    *,
    filtered: bool,
    wide: bool,
) -> None:
    """A page of tasks, and how to get the next."""
    terminal = on_terminal()
    if not page.tasks and terminal:
        print_line(
            "No task matches." if filtered else "No tasks. Make one: tapescope run -- echo hi"
        )
        return
    if wide or not terminal:
        rows = [_wide_row(task, lost) for task in page.tasks]
        columns = tuple(map(Column, _WIDE))
        print_table(columns, rows, terminal=terminal, wide=True)
    else:
        now = now_us()
        print_table(_COLUMNS, [_row(task, lost, now) for task in page.tasks], terminal=True)
    if terminal:
        _print_notes(page, lost, paused)


def _print_notes(page: TaskPage, lost: Mapping[str, str], paused: Sequence[str]) -> None:
    for op in paused:
        print_line(f"paused: {op}. Its tasks wait for 'tapescope resume {op}'.")
    if any(task.parked for task in page.tasks):
        print_line(f"{PARKED}: its key has no slot or rate left. 'tapescope show TASK' says which.")
    if lost:
        print_line("lost: its owner is gone. 'tapescope cancel TASK' ends it.")
    if any(task.damage for task in page.tasks):
        print_line("damaged: some of its row cannot be read. 'tapescope show TASK' says what.")
    if any(format_took(task) == UNKNOWN for task in page.tasks):
        print_line(f"took {UNKNOWN}: the clock was set back while the task ran.")
    if page.next is not None:
        print_line(f"More: --before {shorten_id(page.next)}")


def _row(task: Task, lost: Mapping[str, str], now: int) -> tuple[str | Cell, ...]:
    return (
        shorten_id(task.task_id),
        task.op,
        show_status(name_status(task, lost)),
        format_age(task.created_us, now),
        format_took(task),
        "damaged" if task.damage else name_error(task.error_code),
    )


def _wide_row(task: Task, lost: Mapping[str, str]) -> tuple[str, ...]:
    return (
        task.task_id,
        task.op,
        name_status(task, lost),
        str(task.attempt),
        format_time(task.created_us),
        format_took(task),
        "damaged" if task.damage else task.error_code or "",
    )
