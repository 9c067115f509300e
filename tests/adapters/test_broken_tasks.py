"""What was broken by hand does not keep a store, or its managers, from the rest."""

from __future__ import annotations

import pytest

from tapescope import (
    AuditRule,
    NewTask,
    Reporter,
    StoreRefused,
    TaskManager,
    TaskStatus,
    TaskStore,
    find_store,
)
from tapescope.maintenance.audit import audit_store
from tapescope.model.leases import RescueResult
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Attempt
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.support.breaches import make_ended, run_round, run_statement

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
        rescued = await store.leases.rescue_expired(ops={"x"}, dead_owners=[LOST])
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
    """A row that runs beside a closed tape is left to the audit; those behind it are rescued."""
    async with find_store(store_url) as store:
        ended, key = await make_ended(store)
        behind = [(await make_lost(store))[0] for _ in range(2)]
        await run_round(
            store_url,
            f"UPDATE tasks SET status = 'running', owner = '{LOST}', lease_expires_at = {2**52} "
            f"WHERE id = {key}",
        )
        rescued = await store.leases.rescue_expired(limit, dead_owners=[LOST])
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


async def test_refused_query_is_an_error_of_ours(store_url: str) -> None:
    """What the database refuses for good has one error on every store, whichever verb met it."""
    async with find_store(store_url) as store:
        await run_statement(store_url, "ALTER TABLE ops RENAME TO elsewhere")
        with pytest.raises(StoreRefused, match="tapescope audit"):
            await store.ops.read()
        with pytest.raises(StoreRefused):
            await store.ops.register([KnownOp("x")])


async def test_refused_query_ends_neither_heartbeat_nor_worker(store_url: str) -> None:
    """A manager whose store refuses queries for a while is not ready, and goes on after that."""
    async with TaskManager(store_url, heartbeat=0.02, poll=0.02) as manager:

        def stands(ok: bool) -> bool:
            return next(c.ok for c in manager.check_health() if c.name == "store") is ok

        await until(lambda: stands(True))
        await run_statement(store_url, "ALTER TABLE ops RENAME TO elsewhere")
        manager.op("x")(answer)
        await until(lambda: stands(False))
        await run_statement(store_url, "ALTER TABLE elsewhere RENAME TO ops")
        await until(lambda: stands(True))
        task = await manager.submit("x")
        result = await task.result()

    assert result == 42


async def answer(report: Reporter) -> int:
    """The runner of these tests."""
    return 42
