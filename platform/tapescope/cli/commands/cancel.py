"""``tapescope cancel``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tapescope.cli._filters import Wanted, task_filters
from tapescope.cli._options import json_option, source_options, tasks_argument
from tapescope.cli._output import make_printable, print_json, print_line, say
from tapescope.cli._question import confirm, yes_option
from tapescope.cli._source import CancelSeen, Place, Source, choose_place
from tapescope.cli._task_ids import check_named, find_task_id
from tapescope.errors import UnknownTask
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.wording import describe_caller, format_local
from tapescope.program import run_main
from tapescope.store.flush import CancelState
from tapescope.store.opening import OpenMode

__all__ = ["cancel"]


@click.command("cancel")
@tasks_argument
@task_filters(with_failed=False)
@click.option(
    "--message",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Why the tasks are cancelled, in your own words; kept on their tapes.",
)
@yes_option
@json_option
@source_options
def cancel(
    *,
    task_ids: tuple[str, ...],
    wanted: Wanted,
    message: str,
    yes: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> int:
    """Cancel tasks, in whichever process they run.

    Name them, or choose them with options such as --op; then you are asked first. The command
    returns as soon as the requests are stored; it does not wait for the tasks to end. A task whose
    owner is lost ends at once.
    """
    check_named(task_ids, given=wanted.given)
    if wanted.status is not None and wanted.status.terminal:
        raise click.BadParameter("such tasks have ended", param_hint="--status")
    return run_main(
        _cancel(choose_place(store, server), task_ids, wanted, message, yes=yes, as_json=as_json)
    )


async def _cancel(
    place: Place, named: Sequence[str], wanted: Wanted, message: str, *, yes: bool, as_json: bool
) -> int:
    """Request the cancels, and print what became of each; gives the exit status.

    Raises ``UnknownTask`` where one task is named; of many, each that is unknown is told.
    """
    unknown = 0
    async with place.open(OpenMode.EXISTING) as source:
        if wanted.given:
            named = await _choose(source, wanted, yes=yes)
        for one in named:
            try:
                await _cancel_one(source, one, message, as_json=as_json)
            except (UnknownTask, click.BadParameter) as error:
                if len(named) == 1:
                    raise
                say(str(error))
                unknown += 1
    return 1 if unknown else 0


async def _choose(source: Source, wanted: Wanted, *, yes: bool) -> list[str]:
    """The ids of the tasks that are wanted and have not ended. Raises ``NotConfirmed``."""
    wanted = await wanted.with_whole_ids(source)
    states = [wanted.status] if wanted.status else [s for s in TaskStatus if not s.terminal]
    found = {
        state: [task.task_id async for task in wanted.among(state).read_all(source)]
        for state in states
    }
    ids = [task_id for of_state in found.values() for task_id in of_state]
    if ids:
        counted = ", ".join(f"{len(some):,} {state}" for state, some in found.items() if some)
        tasks = "task" if len(ids) == 1 else "tasks"
        await confirm(f"Cancel {len(ids):,} {tasks} ({counted})", yes=yes)
    else:
        say("no pending or running task matches")
    return ids


async def _cancel_one(source: Source, named: str, message: str, *, as_json: bool) -> None:
    task_id = await find_task_id(source, named)
    answer = await source.cancel(task_id, message)
    task = await source.get(task_id)
    if as_json:
        shape = {"task_id": task_id, "state": answer.state.value, "status": task.status.value}
        print_json(shape | {"lost": answer.lost, "store": source.name})
    else:
        print_line(f"{task_id} {_describe(answer, task)}")


def _describe(answer: CancelSeen, task: Task) -> str:
    lost = answer.lost
    if answer.state is CancelState.CANCELLED:
        return "was pending and is cancelled."
    if answer.state is CancelState.TERMINAL:
        return f"had ended as {task.status}: nothing has changed."
    if lost is not None and task.status.terminal:
        return f"was lost ({lost}) and is {task.status}."
    where = "is running" if lost is None else f"is lost ({lost})"
    if answer.state is CancelState.RECORDED:
        return f"{where}: the request is stored, and {_name_end(lost)} ends it."
    first = answer.request
    assert first is not None, "a request was stored before"
    message = f", {make_printable(first.message)!r}" if first.message else ""
    caller = describe_caller(first.by, first.role) or "by an unknown caller"
    return (
        f"{where}: an earlier request of {format_local(first.at_us)} stays "
        f"({make_printable(caller)}{message})."
    )


def _name_end(lost: str | None) -> str:
    return "the owner of the task" if lost is None else "its owner or a worker of the store"
