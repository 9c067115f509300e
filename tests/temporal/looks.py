"""What the tests look at, on both sides."""

from __future__ import annotations

from temporalio.client import ActivityExecutionStatus, Client
from temporalio.service import RPCError

from tapescope import TaskManager
from tapescope.model import Task
from tapescope.testing import until

__all__ = ["ended_there", "list_types", "read_status", "until_running", "until_status"]


async def read_status(client: Client, task_id: str) -> ActivityExecutionStatus | None:
    """How Temporal has the task; ``None``: it does not know it, or cannot be asked."""
    try:
        return (await client.get_activity_handle(task_id).describe()).status
    except RPCError:
        return None


async def until_status(client: Client, task_id: str, wanted: str, within: float = 30.0) -> None:
    """Until Temporal has the task so."""

    async def reached() -> bool:
        status = await read_status(client, task_id)
        return status is not None and status.name == wanted

    await until(reached, within=within)


async def ended_there(client: Client, task_id: str) -> bool:
    """Whether it goes on no more in Temporal."""
    return await read_status(client, task_id) not in (None, ActivityExecutionStatus.RUNNING)


async def until_running(manager: TaskManager, task_id: str, within: float = 30.0) -> Task:
    """The row, once an attempt runs and has reported."""

    async def runs() -> Task | None:
        task = await manager.store.get(task_id)
        tape = await manager.tape(task_id)
        return task if task.owner is not None and len(tape.events) >= 2 else None

    task = await until(runs, within=within)
    assert task is not None
    return task


async def list_types(manager: TaskManager, task_id: str) -> list[str]:
    """The types of the tape's events, without progress."""
    tape = await manager.tape(task_id)
    return [event.type for event in tape.events if event.type != "progress"]
