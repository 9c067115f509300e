"""Tasks that wait for a worker, and how a test's workers take and finish them."""

from __future__ import annotations

import asyncio

from tapescope.model.tasks import Claim, FinalEvent, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tests.support.memory_stores import LEASE

__all__ = ["HOUR", "OPS", "create", "drain"]

OPS = ("work", "other")
HOUR = 3_600_000_000


async def create(
    store: TaskStore, op: str = "work", *, run_at: int | None = None, retries: int = 0
) -> str:
    """A pending task; gives its id. ``run_at`` is in microseconds since the epoch."""
    task, _ = await store.create(NewTask(new_task_id(), op, run_at=run_at, retries=retries))
    return task.task_id


async def drain(store: TaskStore, owner: str, limit: int) -> list[Claim]:
    """Claim and finish until nothing is due; what is due but held by others is asked for again."""
    taken: list[Claim] = []
    while await store.next_due(OPS) is not None:
        claims = await store.claim_due(owner, OPS, limit, LEASE)
        taken += claims
        finishes = (store.finish_if_running(one.attempt, FinalEvent.succeeded()) for one in claims)
        assert all(finished.won for finished in await asyncio.gather(*finishes))
    return taken
