"""Tapes that an attack on a store's guards is tried on."""

from __future__ import annotations

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store import TaskStore
from tapescope.store.validation import new_task_id


async def make_tapes(store: TaskStore) -> list[int]:
    """The keys of a task whose tape is open, one whose tape is closed, and one that waits."""
    keys: list[int] = []
    for kind in ("open", "closed", "pending"):
        task, _ = await store.create(
            NewTask(new_task_id(), "x", idempotency_key=kind, unique_key=kind)
        )
        keys.append(task.key)
        if kind == "pending":
            continue
        claim = await store.claim_if_pending(task, "me", 30)
        assert claim is not None
        await store.append(claim.attempt, [NewEvent("log", kind)])
        if kind == "closed":
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    return keys
