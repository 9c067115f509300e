"""``tapescope cancel``."""

from __future__ import annotations

import asyncio
import getpass
import socket

from tapescope.cli.output import make_printable, print_json, print_line
from tapescope.cli.tasks import find_task_id, open_store
from tapescope.model.json_shapes import time_shape
from tapescope.model.tasks import CancelReason
from tapescope.store.flush import CancelAnswer, CancelState

__all__ = ["cancel_task"]


def cancel_task(url: str, given: str, message: str, *, as_json: bool) -> None:
    """Request the cancel, and say what it met. Raises ``UnknownTask``."""
    asyncio.run(_cancel(url, given, message, as_json=as_json))


async def _cancel(url: str, given: str, message: str, *, as_json: bool) -> None:
    async with open_store(url) as store:
        task_id = await find_task_id(store, given)
        answer = await store.request_cancel(task_id, CancelReason.USER, message, by=_name_caller())
        status = (await store.get(task_id)).status.value
    if as_json:
        print_json({"task_id": task_id, "state": answer.state.value, "status": status})
    else:
        print_line(f"{task_id} {_describe(answer, status)}")


def _describe(answer: CancelAnswer, status: str) -> str:
    if answer.state is CancelState.CANCELLED:
        return "was pending: it is cancelled."
    if answer.state is CancelState.RECORDED:
        return "is running: the request is on record, and its owner ends it."
    if answer.state is CancelState.TERMINAL:
        return f"had ended as {status}: nothing has changed."
    first = answer.request
    assert first is not None, "a request was on record"
    words = f", {make_printable(first.message)!r}" if first.message else ""
    return (
        f"is running: an earlier request of {time_shape(first.at)} stays "
        f"(by {make_printable(first.by or 'somebody')}{words})."
    )


def _name_caller() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
