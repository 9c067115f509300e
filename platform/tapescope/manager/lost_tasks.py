"""Which of the tasks that run have lost their owner, as far as this process can say; a rescue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tapescope.manager.identity import find_dead_owners
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.wording import format_age

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["LOST", "find_lost", "rescue_lost", "status_of"]

_RESCUE_BATCH: Final = 100
"""Tasks that one transaction rescues."""

LOST: Final = "lost"
"""What a person is told of a running task whose owner was lost, in the place of its status."""
_CLOCKS_DIFFER: Final = 2_000_000
"""Microseconds by which the clock of this host may be ahead of the store's."""


def find_lost(store: TaskStore, tasks: Iterable[Task], now: int) -> dict[str, str]:
    """Why each of these tasks that run is lost, by its id; only those that are.

    The owner is a process of this host that has ended, or it has let its lease end.
    """
    running = [task for task in tasks if task.status is TaskStatus.RUNNING]
    owners = {task.owner for task in running if task.owner is not None}
    dead = set(find_dead_owners(owners, on_one_host=store.on_one_host))
    lost: dict[str, str] = {}
    for task in running:
        until = task.lease_expires_us
        if task.owner in dead:
            lost[task.task_id] = "the process that ran it has ended"
        elif until is not None and until + _CLOCKS_DIFFER < now:
            lost[task.task_id] = f"its lease ended {format_age(until, now)} ago"
    return lost


def status_of(task: Task, lost: Iterable[str]) -> str:
    """The task's status, or ``lost`` where its id is among these."""
    return LOST if task.task_id in lost else task.status.value


async def rescue_lost(store: TaskStore) -> None:
    """Take every task of a lost owner from it, for the next attempt or for its end.

    One whose cancel is on record ends as cancelled. Raises what the store raises.
    """
    owners = await store.leases.read_owners()
    dead = find_dead_owners(owners, on_one_host=store.on_one_host)
    ops = await store.ops.read()  # of any worker: one that has registered the op runs it again
    while True:
        rescued = await store.leases.rescue_expired(_RESCUE_BATCH, ops=ops, dead_owners=dead)
        if len(rescued) < _RESCUE_BATCH:
            return
