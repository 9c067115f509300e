"""Tasks that somebody broke round the guards do not keep the store from looking after the others."""

from __future__ import annotations

import pytest

from tapescope import AuditRule, NewTask, TaskStatus, TaskStore, find_store
from tapescope.audit import audit_store
from tapescope.store import RescueResult, new_task_id
from tapescope.tasks import Attempt
from tests.adapters.breaches import make_ended, run_round

LOST = "there:1:0:aa"


async def make_lost(store: TaskStore, retries: int = 0) -> tuple[Attempt, int]:
    """A task that runs for an owner that is dead; with its key."""
    task, _ = await store.create(NewTask(new_task_id(), "x", retries=retries))
    claim = await store.claim_if_pending(task, LOST, 60)
    assert claim is not None
    return claim.attempt, task.key


@pytest.mark.parametrize("retries", [0, 1])
async def test_task_without_a_tape_is_rescued_with_the_others(store_url: str, retries: int) -> None:
    """A running task whose tape is gone begins a new one, which says that its worker was lost."""
    async with find_store(store_url) as store:
        lost = [await make_lost(store, retries) for _ in range(3)]
        attempt, key = lost[1]
        await run_round(store_url, f"DELETE FROM events WHERE task = {key}")
        rescued = await store.rescue_expired(ops={"x"}, dead_owners=[LOST])
        tape = await store.read_tape(attempt.task_id)

    assert [one.task.task_id for one in rescued] == [one.task_id for one, _ in lost]
    assert len({one.result for one in rescued}) == 1
    assert [(event.seq, event.type) for event in tape.events] == [
        (1, "attempt_failed" if retries else "final")
    ]


@pytest.mark.parametrize("limit", [1, 100])
async def test_task_that_the_guards_keep_from_a_rescue_is_passed_over(
    store_url: str, limit: int
) -> None:
    """A row that runs beside a closed tape is left to the audit; whoever comes behind is rescued."""
    async with find_store(store_url) as store:
        ended, key = await make_ended(store)
        behind = [(await make_lost(store))[0] for _ in range(2)]
        await run_round(
            store_url,
            f"UPDATE tasks SET status = 'running', owner = '{LOST}', lease_expires_at = {2**52} "
            f"WHERE id = {key}",
        )
        rescued = await store.rescue_expired(limit, dead_owners=[LOST])
        broken = await store.get(ended.task_id)
        found = {one.task_id for one in (await audit_store(store)).violations}

    assert [one.task.task_id for one in rescued] == [one.task_id for one in behind][:limit]
    assert {one.result for one in rescued} == {RescueResult.FAILED}
    assert broken.status is TaskStatus.RUNNING
    assert found == {ended.task_id}


@pytest.mark.parametrize("pending", [False, True])
async def test_task_whose_tape_is_gone_is_found(store_url: str, pending: bool) -> None:
    """A task that was claimed has a tape: without one event the numbers have a gap, too."""
    async with find_store(store_url) as store:
        attempt, key = await make_lost(store)
        if pending:
            await store.release(attempt)
        await store.create(NewTask(new_task_id(), "x"))
        await run_round(store_url, f"DELETE FROM events WHERE task = {key}")
        found = (await audit_store(store)).violations

    assert [(one.rule, one.task_id, one.detail) for one in found] == [
        (
            AuditRule.SEQUENCE_GAP,
            attempt.task_id,
            "the tape has 0 events, numbered from nothing to nothing",
        )
    ]
