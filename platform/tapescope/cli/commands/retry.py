"""``tapescope retry``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from tapescope.cli._filters import Wanted, task_filters
from tapescope.cli._options import json_option, source_options, tasks_argument, wait_option
from tapescope.cli._output import say
from tapescope.cli._question import confirm, yes_option
from tapescope.cli._source import Handle, Place, Source, choose_place
from tapescope.cli._submitted import print_submitted
from tapescope.cli._task_ids import check_named, find_task_id
from tapescope.errors import (
    OpFull,
    OpNotRegistered,
    TaskNotEnded,
    UniqueKeyTaken,
    UnknownTask,
)
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["retry"]

_REFUSED: Final = (UnknownTask, TaskNotEnded, OpNotRegistered, UniqueKeyTaken, OpFull)
"""Why one of many tasks is not submitted again, and the others are."""


@click.command("retry")
@tasks_argument
@task_filters(with_failed=True)
@yes_option
@wait_option
@json_option
@source_options
def retry(
    *,
    task_ids: tuple[str, ...],
    wanted: Wanted,
    yes: bool,
    wait: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> int:
    """Submit ended tasks again, and print the ids of the new tasks.

    Name them, or choose them with --failed or --status and other options; then you are asked first.
    A new task has the op, params, timeout, retries, priority, queue, expiry, tags, parent and keys,
    but for the idempotency key, of the old one. A worker of the store must have registered the op.
    """
    check_named(task_ids, given=wanted.given)
    if wanted.given and wanted.status is None:
        raise click.BadParameter("say which tasks: with --failed or --status", param_hint="retry")
    if wanted.status is not None and not wanted.status.terminal:
        raise click.BadParameter("such tasks have not ended", param_hint="--status")
    return run_main(
        _retry(choose_place(store, server), task_ids, wanted, yes=yes, wait=wait, as_json=as_json)
    )


async def _choose(source: Source, wanted: Wanted, *, yes: bool) -> list[str]:
    """The ids of the tasks that are wanted, oldest first. Raises ``NotConfirmed``."""
    wanted = await wanted.with_whole_ids(source)
    ids = [task.task_id async for task in wanted.read_all(source)][::-1]
    if ids:
        tasks = "task" if len(ids) == 1 else "tasks"
        await confirm(f"Submit {len(ids):,} {wanted.status} {tasks} again", yes=yes)
    else:
        say("no task matches")
    return ids


async def _retry(
    place: Place, named: Sequence[str], wanted: Wanted, *, yes: bool, wait: bool, as_json: bool
) -> int:
    """Gives the exit status.

    Raises ``UnknownTask``, ``TaskNotEnded``, ``OpNotRegistered``, ``UniqueKeyTaken``, ``OpFull``
    where one task is named; of many, each that cannot be submitted again is told.
    """
    status = 0
    async with place.open(OpenMode.EXISTING) as source:
        if wanted.given:
            named = await _choose(source, wanted, yes=yes)
            if not named:
                return status
        async with source.submitting() as submitter:  # a manager rescues: after the question
            handles: list[Handle] = []
            for one in named:
                try:
                    handles.append(await submitter.resubmit(await find_task_id(source, one)))
                except (*_REFUSED, click.BadParameter) as error:
                    if len(named) == 1:
                        raise
                    say(str(error))
                    status = 1
            for handle in handles:
                status |= await print_submitted(handle, source.name, wait=wait, as_json=as_json)
    return status
