"""Tasks of every kind in a store, for the tests of what the command line shows of them."""

from __future__ import annotations

from tapescope import NewEvent, NewTask, Task, TaskStore
from tapescope.manager.identity import name_owner
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent
from tapescope.store.validation import new_task_id

__all__ = [
    "LEASE",
    "claim",
    "dead_owner",
    "make_ended",
    "make_every_kind",
    "make_failed",
    "make_task",
]

LEASE = 60.0
"""Seconds of a lease that no test outlasts."""
_TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "shop/resize.py", line 7, in resize\n'
    "    fetch(url)\n"
    "ConnectionError: no route to host\n"
)


def dead_owner() -> str:
    """The owner of a process of this host that has ended: our pid had another start then."""
    host, pid, start, rest = name_owner().split(":")
    ticks, _, namespace = start.partition("-")
    return f"{host}:{pid}:{int(ticks) - 1}-{namespace}:{rest}"


async def make_task(store: TaskStore, op: str = "resize", *, retries: int = 0) -> Task:
    """A pending task."""
    task, _ = await store.create(NewTask(new_task_id(), op, {"folder": "photos"}, retries=retries))
    return task


async def claim(
    store: TaskStore,
    op: str = "resize",
    *,
    owner: str = "here:1:2:aa",
    lease: float = LEASE,
    retries: int = 0,
) -> Attempt:
    """A running task of this owner."""
    task = await make_task(store, op, retries=retries)
    claimed = await store.claim_if_pending(task, owner, lease)
    assert claimed is not None
    return claimed.attempt


async def make_ended(store: TaskStore, op: str = "resize", *, late: int = 0) -> Attempt:
    """A task that succeeded, and then reported ``late`` times more."""
    attempt = await claim(store, op)
    await store.append(attempt, [NewEvent("log", {"level": "info", "message": "on it"})])
    await store.finish_if_running(attempt, FinalEvent.succeeded({"resized": 3}))
    await store.append(attempt, [NewEvent("progress", {"n": n}) for n in range(late)])
    return attempt


async def make_failed(
    store: TaskStore, op: str = "resize", *, message: str = "no route to host\nis 10.0.0.7 up?"
) -> Attempt:
    """A task that failed after one retry, with the same error both times."""
    attempt = await claim(store, op, retries=1)
    error = ErrorInfo("shop.errors.NoRoute", message, _TRACEBACK)
    await store.retry_later(attempt, error, store.clock.now())
    task = await store.get(attempt.task_id)
    claimed = await store.claim_if_pending(task, "here:1:2:aa", LEASE)
    assert claimed is not None
    await store.finish_if_running(claimed.attempt, FinalEvent.failed(error))
    return claimed.attempt


async def make_every_kind(store: TaskStore, op: str = "resize") -> dict[str, str]:
    """The id of a task of each status, and of a lost one, by what ``list`` calls it."""
    cancelled = await make_task(store, op)
    await store.request_cancel(cancelled.task_id)
    return {
        "pending": (await make_task(store, op)).task_id,
        "running": (await claim(store, op)).task_id,
        "succeeded": (await make_ended(store, op, late=2)).task_id,
        "failed": (await make_failed(store, op)).task_id,
        "cancelled": cancelled.task_id,
        "lost": (await claim(store, op, owner=dead_owner())).task_id,
    }
