"""Audit and retention: what is in order passes, and only what is old goes."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting, UnknownTask
from tapescope.model.audit import AuditPage
from tapescope.model.tape import DropReason, NewEvent, Outcome
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite, skip_unless_shared
from tapescope.testing.tasks import LEASE, OWNER

OLD = 80
"""Tasks that are pruned while others run."""


async def begin(store: TaskStore, op: str = "x", key: str | None = None) -> Attempt:
    """A task that runs."""
    task, _ = await store.create(NewTask(new_task_id(), op, idempotency_key=key))
    claim = await store.claim_if_pending(task, OWNER, LEASE)
    assert claim is not None
    return claim.attempt


async def make_ended(
    store: TaskStore, op: str = "x", final: FinalEvent | None = None, key: str | None = None
) -> Attempt:
    """A task of three events that ended."""
    attempt = await begin(store, op, key)
    await store.append(attempt, [NewEvent("log", "on it")])
    await store.finish_if_running(attempt, final or FinalEvent.succeeded())
    return attempt


async def audit(store: TaskStore, limit: int = 1_000) -> list[AuditPage]:
    """The pages of an audit of the whole store."""
    pages = [await store.maintenance.audit(limit=limit)]
    while (after := pages[-1].next) is not None:
        pages.append(await store.maintenance.audit(after=after, limit=limit))
    return pages


class MaintenanceConformance(StoreSuite):
    """Audit and retention: what is in order passes, and only what is old goes."""

    async def test_audit_goes_through_the_store_in_pages(self, store: TaskStore) -> None:
        """Every task is checked once, in pages of the size asked for; the last has no next."""
        for _ in range(5):
            await make_ended(store)
        pages = await audit(store, limit=2)

        assert [page.checked for page in pages] == [2, 2, 1]
        assert [page.rows for page in pages] == [8, 8, 4]
        assert all(page.violations == () for page in pages)

    async def test_audit_of_an_empty_store_checks_nothing(self, store: TaskStore) -> None:
        """No tasks, no violations."""
        (page,) = await audit(store)

        assert (page.checked, page.violations) == (0, ())

    async def test_audit_finds_nothing_while_tasks_run(self, store: TaskStore) -> None:
        """Pages read between the commits of busy writers hold whole transactions only."""

        async def work() -> None:
            for _ in range(6):
                attempt = await make_ended(store)
                await store.append(attempt, [NewEvent("log", "late")])

        writing = asyncio.gather(*(work() for _ in range(10)))
        audits = violations = 0
        while not writing.done():
            pages = await audit(store, limit=7)
            audits, violations = audits + 1, violations + sum(len(p.violations) for p in pages)
            await asyncio.sleep(0)
        await writing

        assert audits > 0
        assert violations == 0
        assert sum(page.checked for page in await audit(store)) == 60

    async def test_bad_settings_are_refused(self, store: TaskStore) -> None:
        """Ages below zero, and those that are no number, are errors."""
        with pytest.raises(BadSetting, match="grace"):
            await store.maintenance.audit(grace=-1)
        with pytest.raises(BadSetting, match="older_than"):
            await store.maintenance.prune(older_than=-1)
        with pytest.raises(BadSetting, match="older_than"):
            await store.maintenance.prune_quarantine(older_than=float("nan"))

    async def test_repair_leaves_a_task_that_is_in_order(self, store: TaskStore) -> None:
        """Nothing is done to it, nothing is left, and the repair log has no entry."""
        attempt = await make_ended(store)
        before = await store.get(attempt.task_id), await store.read_tape(attempt.task_id)
        dry = await store.maintenance.repair(attempt.task_id, by="the tests", dry_run=True)
        mended = await store.maintenance.repair(attempt.task_id, by="the tests")

        assert (dry.repairs, dry.left) == (mended.repairs, mended.left) == ((), ())
        assert list(await store.maintenance.read_repairs()) == []
        assert before == (await store.get(attempt.task_id), await store.read_tape(attempt.task_id))
        with pytest.raises(UnknownTask):
            await store.maintenance.repair(new_task_id(), by="the tests")

    async def test_prune_takes_old_ended_tasks_whole(self, unrecorded_store: TaskStore) -> None:
        """A task that ended goes with its tape and its counts; what lives, or is young, stays."""
        store = unrecorded_store
        ended = [await make_ended(store) for _ in range(5)]
        await store.append(ended[0], [NewEvent("log", "late")])
        running = await begin(store)
        pending, _ = await store.create(NewTask(new_task_id(), "x"))

        assert await store.maintenance.prune(older_than=3_600) == 0
        assert await store.maintenance.prune(older_than=0, dry_run=True) == 5
        assert await store.maintenance.prune(older_than=0, limit=2) == 5
        assert await store.maintenance.prune(older_than=0) == 0
        with pytest.raises(UnknownTask):
            await store.read_tape(ended[0].task_id)
        assert (await store.get(running.task_id)).status is TaskStatus.RUNNING
        assert (await store.get(pending.task_id)).status is TaskStatus.PENDING
        assert (await store.read_quarantine()).counts == {}
        assert [page.checked for page in await audit(store)] == [2]

    async def test_prune_goes_by_outcome_and_op(self, unrecorded_store: TaskStore) -> None:
        """Only tasks of the outcomes and the op that are named go."""
        store = unrecorded_store
        good = await make_ended(store, "scan")
        bad = await make_ended(store, "scan", FinalEvent.failed(ErrorInfo("boom")))
        other = await make_ended(store, "copy")

        assert await store.maintenance.prune(older_than=0, outcomes=[Outcome.FAILED]) == 1
        assert await store.maintenance.prune(older_than=0, op="copy") == 1
        assert [task.task_id for task in (await store.list()).tasks] == [good.task_id]
        for gone in (bad, other):
            with pytest.raises(UnknownTask):
                await store.get(gone.task_id)

    async def test_late_event_of_a_pruned_task_is_of_an_unknown_one(
        self, unrecorded_store: TaskStore
    ) -> None:
        """It reaches no other task's tape: it is dropped, counted and kept as ``unknown_task``."""
        store = unrecorded_store
        old = await make_ended(store)
        await store.maintenance.prune(older_than=0)
        new = await make_ended(store)
        appended = await store.append(old, [NewEvent("log", "late")])
        drops = await store.read_quarantine(old.task_id)

        assert appended.dropped is DropReason.UNKNOWN_TASK
        assert drops.counts == {DropReason.UNKNOWN_TASK: 1}
        assert [drop.body for drop in drops.drops] == ["late"]
        assert (await store.read_tape(new.task_id)).last_seq == 3
        assert [page.violations for page in await audit(store)] == [()]

    async def test_idempotency_key_of_a_pruned_task_is_free(
        self, unrecorded_store: TaskStore
    ) -> None:
        """A key is remembered as long as its task."""
        store = unrecorded_store
        await make_ended(store, key="only once")
        await store.maintenance.prune(older_than=0)
        _, created = await store.create(NewTask(new_task_id(), "x", idempotency_key="only once"))

        assert created

    async def test_quarantine_has_its_own_age(self, unrecorded_store: TaskStore) -> None:
        """Late events go while their task stays, and their count stays with it."""
        store = unrecorded_store
        attempt = await make_ended(store)
        await store.append(attempt, [NewEvent("log", n) for n in range(5)])
        unknown = Attempt(new_task_id(), 1, OWNER)
        await store.append(unknown, [NewEvent("log", "whose?")])

        assert await store.maintenance.prune_quarantine(older_than=3_600) == 0
        assert await store.maintenance.prune_quarantine(older_than=0, dry_run=True) == 6
        assert await store.maintenance.prune_quarantine(older_than=0, limit=2) == 6
        page = await store.read_quarantine()
        assert (page.drops, page.overflow) == ((), 5)
        assert page.counts == {DropReason.AFTER_TERMINAL: 5}
        assert (await store.read_tape(attempt.task_id)).dropped == 5
        assert [page.violations for page in await audit(store)] == [()]

    async def test_count_of_an_unknown_task_stays_while_an_event_is_kept(
        self, unrecorded_store: TaskStore
    ) -> None:
        """It goes with the last one (I7)."""
        store, unknown = unrecorded_store, Attempt(new_task_id(), 1, OWNER)
        await store.append(unknown, [NewEvent("log", n) for n in range(2)])
        first, last = await store.backend.due_drops(2**53, 0, 10)
        await store.backend.delete_drops([first.key])
        page = await store.read_quarantine()
        await store.backend.delete_drops([last.key])

        assert len(page.drops) == 1
        assert page.counts == {DropReason.UNKNOWN_TASK: 2}
        assert not (await store.read_quarantine()).counts

    async def test_what_lives_is_deleted_by_nobody(self, store: TaskStore) -> None:
        """Whatever a prune has seen before: it is asked again when it deletes (I4)."""
        attempt = await begin(store)
        waiting, _ = await store.create(NewTask(new_task_id(), "x"))
        running = await store.get(attempt.task_id)

        assert await store.backend.delete_tasks([running.key, waiting.key], 1) == 0
        assert await store.get(attempt.task_id) == running
        assert await store.get(waiting.task_id) == waiting

    async def test_invariants_hold_while_pruning_beside_a_writer(self, stores: Stores) -> None:
        """Old tasks go in small batches while new ones run: neither checker nor audit objects."""
        writer, pruner = await stores.open(), await stores.open_unrecorded()
        skip_unless_shared(writer)
        await asyncio.gather(*(make_ended(pruner, "old") for _ in range(OLD)))

        async def work() -> None:
            for _ in range(5):
                attempt = await make_ended(writer, "new")
                await writer.append(attempt, [NewEvent("log", "late")])

        writing = asyncio.gather(*(work() for _ in range(8)))
        pruned = 0
        while pruned < OLD:
            pruned += await pruner.maintenance.prune(older_than=0, op="old", limit=9)
        await writing
        pages = await audit(writer)

        assert pruned == OLD
        assert [(page.checked, page.violations) for page in pages] == [(40, ())]
