"""The audit finds what the guards would have refused: each rule, made by hand round the guards."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tapescope import AuditRule, NewTask, find_store
from tapescope.maintenance.audit import audit_store
from tapescope.store.validation import new_task_id
from tests.support.breaches import BREACHES, make_ended, run_round


@pytest.mark.parametrize("rule", BREACHES)
async def test_each_breach_is_found(store_url: str, rule: AuditRule) -> None:
    """One task of three breaks one rule: that rule and that task are named, and nothing else."""
    statement, detail = BREACHES[rule]
    async with find_store(store_url) as store:
        tasks = [await make_ended(store) for _ in range(3)]
        attempt, key = tasks[1]
        assert (await audit_store(store)).violations == ()
        await run_round(store_url, statement.format(key=key, task_id=attempt.task_id))
        report = await audit_store(store)

    assert report.checked == 3
    found = [(one.rule, one.task_id, one.detail) for one in report.violations]
    assert found == [(rule, attempt.task_id, detail)]


@pytest.mark.parametrize(
    ("body", "said"),
    [("no json", "nothing"), ('{"outcome": "failed"}', "failed")],
    ids=["no json", "other outcome"],
)
async def test_final_that_says_something_else_is_found(
    store_url: str, body: str, said: str
) -> None:
    """A final is read whatever stands in it: one that is no JSON does not end the audit."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(
            store_url, f"UPDATE events SET body = '{body}' WHERE task = {key} AND seq = 4"
        )
        found, *others = (await audit_store(store)).violations

    assert [other.rule for other in others] == [AuditRule.BAD_ROW] * (body == "no json")
    assert (found.rule, found.task_id) == (AuditRule.OUTCOME_MISMATCH, attempt.task_id)
    assert found.detail == f"the row says succeeded, the final (event 4) says {said}"


async def test_running_task_with_a_closed_tape_is_found(store_url: str) -> None:
    """A final beside a row that runs is a mismatch, and its late events cannot have been."""
    async with find_store(store_url) as store:
        attempt, key = await make_ended(store)
        await run_round(
            store_url,
            f"UPDATE tasks SET status = 'running', lease_expires_at = {2**52} WHERE id = {key}",
        )
        report = await audit_store(store)

    assert [found.rule for found in report.violations] == [
        AuditRule.OUTCOME_MISMATCH,
        AuditRule.DROPPED_COUNT_MISMATCH,
    ]
    assert {found.task_id for found in report.violations} == {attempt.task_id}


async def test_stuck_task_is_found_after_the_grace(store_url: str) -> None:
    """A task that runs is stuck once its lease ended longer ago than the grace, not before."""
    async with find_store(store_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.claim_if_pending(task, "me", 60)
        await run_round(
            store_url, f"UPDATE tasks SET lease_expires_at = claimed_at WHERE id = {task.key}"
        )
        within = await store.maintenance.audit(grace=3_600)
        (found,) = (await store.maintenance.audit(grace=0)).violations

    assert within.violations == ()
    assert (found.rule, found.task_id) == (AuditRule.STUCK_RUNNING, task.task_id)
    assert found.detail.startswith("attempt 1 of owner me runs, but its lease ended ")


async def test_space_is_used_again(sqlite_url: str) -> None:
    """What a prune frees in a SQLite file holds the next tasks: the file does not grow."""
    async with find_store(sqlite_url) as store:
        sizes: list[int] = []
        for _ in range(4):
            for _ in range(30):
                await make_ended(store)
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
                sizes.append(conn.execute("PRAGMA page_count").fetchone()[0])
            await store.maintenance.prune(older_than=0)
            await store.maintenance.prune_quarantine(older_than=0)

    assert sizes[3] <= sizes[0] + 2
