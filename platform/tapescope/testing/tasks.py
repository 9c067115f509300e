"""Tasks for the test of a store: one that runs, its events, and who runs it."""

from __future__ import annotations

from typing import Final

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import DEFAULT_QUEUE, Attempt, Claim, NewTask, Task
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.polling import until

__all__ = [
    "HOUR",
    "LEASE",
    "OPS",
    "OTHER",
    "OWNER",
    "SHORT",
    "create",
    "create_keyed",
    "log",
    "outlast_lease",
    "start",
]

OWNER: Final = "here:1:0:aa"
OTHER: Final = "there:2:0:bb"
OPS: Final = ("work", "other")
"""The ops that the tasks of these tests have."""
LEASE: Final = 30.0
"""Seconds of a lease that no test outlasts."""
SHORT: Final = 0.000_001
"""Seconds of a lease that is over at once."""
HOUR: Final = 3_600_000_000
"""In microseconds."""


async def create(
    store: TaskStore, op: str = "work", *, run_at: int | None = None, retries: int = 0
) -> str:
    """A pending task; gives its id. ``run_at`` is in microseconds since the epoch."""
    task, _ = await store.create(NewTask(new_task_id(), op, run_at=run_at, retries=retries))
    return task.task_id


async def create_keyed(
    store: TaskStore,
    key: str | None,
    *,
    op: str = "work",
    retries: int = 0,
    priority: int = 0,
    run_at: int | None = None,
    queue: str = DEFAULT_QUEUE,
) -> Task:
    """A pending task with a concurrency key, or without one."""
    new = NewTask(
        new_task_id(),
        op,
        retries=retries,
        priority=priority,
        run_at=run_at,
        concurrency_key=key,
        queue=queue,
    )
    task, _ = await store.create(new)
    return task


async def start(store: TaskStore, op: str = "work", owner: str = OWNER) -> Attempt:
    """A new task of ``op``, claimed by ``owner``."""
    task, _ = await store.create(NewTask(new_task_id(), op))
    claim = await store.claim_if_pending(task, owner, LEASE)
    assert claim is not None
    return claim.attempt


async def outlast_lease(store: TaskStore, claim: Claim) -> None:
    """Wait until the lease of a claim is over."""
    expires = claim.task.lease_expires_us or 0
    await until(lambda: store.clock.now() > expires)


def log(text: object = "") -> NewEvent:
    """A ``log`` event."""
    return NewEvent("log", {"message": text})
