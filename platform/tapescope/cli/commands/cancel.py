"""``tapescope cancel``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from tapescope.cli._options import JsonOption, StoreOption, TaskArgument
from tapescope.cli._output import make_printable, print_json, print_line
from tapescope.cli._settings import name_caller
from tapescope.cli._store import choose_store, find_task_id, open_store
from tapescope.model.tasks import CancelReason
from tapescope.model.times import format_time
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.opening import OpenMode

__all__ = ["cancel"]


def cancel(
    task_id: TaskArgument,
    message: Annotated[
        str,
        typer.Option(
            "--message",
            metavar="TEXT",
            help="Why the task is cancelled, in your own words; kept on its tape.",
        ),
    ] = "",
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Cancel a task, in whichever process it runs.

    The command returns as soon as the request is stored; it does not wait for the task to end.
    """
    asyncio.run(_cancel(choose_store(store), task_id, message, as_json=as_json))


async def _cancel(url: str, named: str, message: str, *, as_json: bool) -> None:
    """Request the cancel, and print what became of the request. Raises ``UnknownTask``."""
    async with open_store(url, OpenMode.EXISTING) as store:
        task_id = await find_task_id(store, named)
        answer = await store.request_cancel(task_id, CancelReason.USER, message, by=name_caller())
        status = (await store.get(task_id)).status.value
    if as_json:
        print_json({"task_id": task_id, "state": answer.state.value, "status": status})
    else:
        print_line(f"{task_id} {_describe(answer, status)}")


def _describe(answer: CancelAnswer, status: str) -> str:
    if answer.state is CancelState.CANCELLED:
        return "was pending and is cancelled."
    if answer.state is CancelState.RECORDED:
        return "is running: the request is stored, and the owner of the task ends it."
    if answer.state is CancelState.TERMINAL:
        return f"had ended as {status}: nothing has changed."
    first = answer.request
    assert first is not None, "a request was stored before"
    message = f", {make_printable(first.message)!r}" if first.message else ""
    return (
        f"is running: an earlier request of {format_time(first.at_us)} stays "
        f"(by {make_printable(first.by or 'an unknown caller')}{message})."
    )
