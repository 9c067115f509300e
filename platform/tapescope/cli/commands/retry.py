"""``tapescope retry``."""

from __future__ import annotations

import asyncio

from tapescope.cli._options import JsonOption, StoreOption, TaskArgument, WaitOption
from tapescope.cli._store import choose_store, find_task_id
from tapescope.cli._submitted import open_manager, print_submitted
from tapescope.store.opening import OpenMode

__all__ = ["retry"]


def retry(
    task_id: TaskArgument,
    wait: WaitOption = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Submit an ended task again, and print the id of the new task.

    The new task has the op, params, timeout and retries of the old one. A worker of the store must
    have registered the op.
    """
    return asyncio.run(_retry(choose_store(store), task_id, wait=wait, as_json=as_json))


async def _retry(url: str, named: str, *, wait: bool, as_json: bool) -> int:
    """Gives the exit status. Raises ``UnknownTask``, ``TaskNotEnded``, ``OpNotRegistered``."""
    async with open_manager(url, OpenMode.EXISTING) as (store, manager):
        handle = await manager.resubmit(await find_task_id(store, named))
        return await print_submitted(handle, wait=wait, as_json=as_json)
