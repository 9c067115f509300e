"""``tapescope cancel``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from tapescope.cli._caller import continue_callers_trace
from tapescope.cli._filters import (
    Wanted,
    choose_tasks,
    key_option,
    op_option,
    owner_option,
    since_option,
    status_option,
    until_option,
)
from tapescope.cli._options import json_option, store_option, tasks_argument
from tapescope.cli._output import make_printable, print_json, print_line, say
from tapescope.cli._question import confirm, yes_option
from tapescope.cli._settings import name_caller
from tapescope.cli._store import choose_store, open_store
from tapescope.cli._task_ids import check_named, find_task_id
from tapescope.cli._wording import now_us
from tapescope.errors import UnknownTask
from tapescope.manager.identity import find_dead_owners
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.tasks import CancelReason, Task, TaskStatus
from tapescope.model.wording import describe_caller, format_local
from tapescope.program import run_main
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore

__all__ = ["cancel"]

_RESCUE_BATCH: Final = 100


@click.command("cancel")
@tasks_argument
@status_option
@op_option
@owner_option
@key_option
@since_option
@until_option
@click.option(
    "--message",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Why the tasks are cancelled, in your own words; kept on their tapes.",
)
@yes_option
@json_option
@store_option
def cancel(
    *,
    task_ids: tuple[str, ...],
    status: TaskStatus | None,
    op: str | None,
    owner: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    message: str,
    yes: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Cancel tasks, in whichever process they run.

    Name them, or choose them with options such as --op; then you are asked first. The command
    returns as soon as the requests are stored; it does not wait for the tasks to end. A task whose
    owner is lost ends at once.
    """
    wanted = choose_tasks(status, op, owner, key, since, until, failed=False)
    check_named(task_ids, given=wanted.given)
    if status is not None and status.terminal:
        raise click.BadParameter("such tasks have ended", param_hint="--status")
    return run_main(
        _cancel(choose_store(store), task_ids, wanted, message, yes=yes, as_json=as_json)
    )


async def _cancel(
    url: str, named: Sequence[str], wanted: Wanted, message: str, *, yes: bool, as_json: bool
) -> int:
    """Request the cancels, and print what became of each; gives the exit status.

    Raises ``UnknownTask`` where one task is named; of many, each that is unknown is told.
    """
    unknown = 0
    async with open_store(url, OpenMode.EXISTING) as store:
        if wanted.given:
            named = await _choose(store, wanted, yes=yes)
        for one in named:
            try:
                await _cancel_one(store, one, message, as_json=as_json)
            except (UnknownTask, click.BadParameter) as error:
                if len(named) == 1:
                    raise
                say(str(error))
                unknown += 1
    return 1 if unknown else 0


async def _choose(store: TaskStore, wanted: Wanted, *, yes: bool) -> list[str]:
    """The ids of the tasks that are wanted and have not ended. Raises ``NotConfirmed``."""
    states = [wanted.status] if wanted.status else [s for s in TaskStatus if not s.terminal]
    found = {
        state: [task.task_id async for task in wanted.among(state).read_all(store)]
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


async def _cancel_one(store: TaskStore, named: str, message: str, *, as_json: bool) -> None:
    task_id = await find_task_id(store, named)
    with continue_callers_trace():
        answer = await store.request_cancel(task_id, CancelReason.USER, message, by=name_caller())
    task = await store.get(task_id)
    lost = find_lost(store, [task], now_us()).get(task_id)
    if lost is not None:
        await _rescue(store)
        task = await store.get(task_id)
    if as_json:
        shape = {"task_id": task_id, "state": answer.state.value, "status": task.status.value}
        print_json(shape | {"lost": lost, "store": store.name})
    else:
        print_line(f"{task_id} {_describe(answer, task, lost)}")


async def _rescue(store: TaskStore) -> None:
    """Take the tasks of lost owners from them, as a worker would: this one ends as cancelled."""
    owners = await store.leases.read_owners()
    dead = find_dead_owners(owners, on_one_host=store.on_one_host)
    ops = await store.ops.read()
    while True:
        rescued = await store.leases.rescue_expired(_RESCUE_BATCH, ops=ops, dead_owners=dead)
        if len(rescued) < _RESCUE_BATCH:
            return


def _describe(answer: CancelAnswer, task: Task, lost: str | None) -> str:
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
