"""The backlog: what waits and runs, in numbers that every path of a task moves."""

from __future__ import annotations

import pytest

from tapescope.model.backlog import OpBacklog
from tapescope.model.leases import RescueResult
from tapescope.model.ops import KnownOp
from tapescope.model.tape import Outcome
from tapescope.model.tasks import (
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
)
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OWNER

__all__ = ["BacklogConformance"]

OP = "work"
NUMBERS = ("due", "scheduled", "retrying", "running", "succeeded", "failed", "cancelled")


class BacklogConformance(StoreSuite):
    """The numbers are the same from every process, and a count of the tasks gives the same."""

    async def test_a_task_is_counted_once_on_its_way(self, store: TaskStore) -> None:
        """Due, running, ended: it leaves one number as it enters the next."""
        task = await make(store)
        waits = await read(store)
        claim = await take(store, task)
        runs = await read(store)
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded(1))
        ended = await read(store)

        assert [facts(one) for one in (waits, runs, ended)] == [
            {"due": 1},
            {"running": 1},
            {"succeeded": 1},
        ]
        assert [one.submitted for one in (waits, runs, ended)] == [1, 1, 1]
        assert (waits.oldest_due is None, runs.oldest_due) == (False, None)
        assert (waits.oldest_running, ended.oldest_running) == (None, None)
        assert runs.oldest_running is not None

    @pytest.mark.parametrize("outcome", Outcome)
    async def test_each_outcome_has_its_total(self, store: TaskStore, outcome: Outcome) -> None:
        """Also that of a task that was cancelled while it waited."""
        task = await make(store)
        if outcome is Outcome.CANCELLED:
            await store.request_cancel(task.task_id)
        else:
            claim = await take(store, task)
            error = ErrorInfo("ValueError", "no")
            ends = {Outcome.SUCCEEDED: FinalEvent.succeeded(), Outcome.FAILED: failed(error)}
            await store.finish_if_running(claim.attempt, ends[outcome])

        assert facts(await read(store)) == {outcome.value: 1}

    async def test_what_waits_for_a_time_is_not_due(self, store: TaskStore) -> None:
        """It is scheduled until then; and once its time has come, a task like the others."""
        now = store.due_clock.now()
        await make(store, run_at=now + HOUR)
        await make(store, run_at=now - HOUR)
        both = await read(store)

        assert facts(both) == {"due": 1, "scheduled": 1}
        assert both.oldest_due == pytest.approx(HOUR / 1e6, abs=60)

    async def test_a_retry_waits_as_one(self, store: TaskStore) -> None:
        """Until its time; a task that is released is due at once."""
        later = await take(store, await make(store, retries=1))
        await store.retry_later(
            later.attempt, ErrorInfo("ValueError", "no"), store.due_clock.now() + HOUR
        )
        waits = await read(store)
        released = await take(store, await make(store))
        await store.release(released.attempt)
        both = await read(store)
        await store.request_cancel(later.task.task_id)
        await store.claim_due(OWNER, [OP], 10, LEASE)

        assert facts(waits) == {"retrying": 1}
        assert facts(both) == {"retrying": 1, "due": 1}
        assert facts(await read(store)) == {"running": 1, "cancelled": 1}

    async def test_a_rescue_moves_the_numbers(self, store: TaskStore) -> None:
        """A lost run is due again, or has failed."""
        await take(store, await make(store, retries=1))
        await take(store, await make(store))
        rescued = await store.leases.rescue_expired(ops=[OP], dead_owners=[OWNER])

        assert {one.result for one in rescued} == {RescueResult.RETRIED, RescueResult.FAILED}
        assert facts(await read(store)) == {"due": 1, "failed": 1}

    async def test_a_prune_changes_no_total(self, unrecorded_store: TaskStore) -> None:
        """What has ended stays counted when its tape is deleted."""
        store = unrecorded_store
        claim = await take(store, await make(store))
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        await make(store)
        pruned = await store.maintenance.prune(older_than=0)
        left = await read(store)

        assert pruned == 1
        assert facts(left) == {"due": 1, "succeeded": 1}
        assert left.submitted == 2

    async def test_a_task_of_its_submitter_needs_no_worker(self, store: TaskStore) -> None:
        """What only the process that submitted it can run is told apart."""
        await make(store, only_by=OWNER)
        alone = await read(store)
        await make(store)
        mixed = await read(store)

        assert (alone.due, alone.held, alone.unattended) == (1, 1, False)
        assert (mixed.due, mixed.held, mixed.unattended) == (2, 1, True)

    async def test_workers_are_those_that_live(self, store: TaskStore) -> None:
        """Each that has told so within its lease, for each of its ops; one that left is gone."""
        await store.ops.register([KnownOp(OP, timeout=5.0)])
        await store.ops.tell("one", [OP, "other"], 60)
        await store.ops.tell("two", [OP], 60)
        await store.ops.tell("late", [OP], 1e-6)
        both = await read(store)
        await store.ops.forget("one")
        await store.ops.forget("never there")
        left = await read(store)

        assert (both.workers, left.workers) == (2, 1)
        assert (left.registered, left.timeout) == (True, 5.0)

    async def test_every_process_reads_the_same(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Also one that has written nothing; a reading may be another's, and has its age."""
        for _ in range(3):
            await make(store)
        first = await store.backlog.read(max_age=0)
        second = await second_store.backlog.read(max_age=0)
        shared = await second_store.backlog.read(max_age=60)

        assert first.ops[0].due == second.ops[0].due == shared.ops[0].due == 3
        assert 0 <= shared.age <= 60
        assert first.age == second.age == 0

    async def test_nothing_waits_on_a_new_store(self, store: TaskStore) -> None:
        """It has no numbers, and nothing to mend."""
        backlog = await store.backlog.read()

        assert backlog.ops == ()
        assert await store.backlog.audit() == []
        assert list(await store.backlog.mend(by="me")) == []


async def make(store: TaskStore, **given: object) -> Task:
    """A task."""
    task, _ = await store.create(NewTask(new_task_id(), OP, **given))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as NewTask has them
    return task


async def take(store: TaskStore, task: Task) -> Claim:
    """Claim it."""
    claim = await store.claim_if_pending(task, OWNER, LEASE)
    assert claim is not None
    return claim


def failed(error: ErrorInfo) -> FinalEvent:
    """A failure."""
    return FinalEvent.failed(error)


async def read(store: TaskStore) -> OpBacklog:
    """The numbers of the op as they stand now, which a count of the tasks confirms."""
    backlog = await store.backlog.read(max_age=0)
    assert [one for one in await store.backlog.recount() if one.differs] == []
    return next(one for one in backlog.ops if one.op == OP)


def facts(one: OpBacklog) -> dict[str, int]:
    """The numbers that are not 0."""
    return {name: n for name in NUMBERS if (n := getattr(one, name))}
