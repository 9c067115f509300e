"""What is printed of a task that was submitted: its id, and with ``--wait`` its result."""

from __future__ import annotations

from typing import Any, Final

from tapescope.cli._output import print_json, print_line, say
from tapescope.cli._source import Handle
from tapescope.errors import TaskCancelled, TaskFailed

__all__ = ["print_submitted"]

_EXIT_NOT_SUCCEEDED: Final = 1
"""With ``--wait``: the task failed or was cancelled."""


async def print_submitted(handle: Handle, store: str, *, wait: bool, as_json: bool) -> int:
    """Print the task's id, with ``wait`` its result as well; gives the exit status.

    ``store`` is the name of the store, or the server, that it is in.
    """
    if not as_json:
        print_line(handle.task_id)
    shape: dict[str, Any] = {"task_id": handle.task_id}
    status = 0
    if wait:
        try:
            result = await handle.result()
            shape["result"] = result
            if not as_json:
                print_json(result)
        except (TaskFailed, TaskCancelled) as end:
            say(str(end))
            status = _EXIT_NOT_SUCCEEDED
    if as_json:
        row = await handle.status()
        print_json(
            {"task_id": row.task_id, "op": row.op, "status": row.status.value}
            | shape
            | ({"error_code": row.error_code} if wait else {})
            | {"store": store}
        )
    return status
