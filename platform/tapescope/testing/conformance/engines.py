"""Tasks that an engine brings to a worker: no claim of due tasks takes one."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting
from tapescope.model.leases import RescueResult
from tapescope.model.tasks import ErrorInfo, NewTask, Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OPS, OWNER

ENGINE = "elsewhere"


class EnginesConformance(StoreSuite):
    """Tasks that an engine brings to a worker: no claim of due tasks takes one."""

    @pytest.mark.parametrize("queues", [None, ["default"]])
    async def test_a_claim_of_due_tasks_leaves_them(
        self, store: TaskStore, queues: list[str] | None
    ) -> None:
        """Of one op and of each priority every second task has an engine."""
        made = [await _create(store, None if n % 2 else ENGINE, priority=n // 4) for n in range(8)]
        own = [task for task in made if task.engine is None]
        claims = await store.claim_due(OWNER, OPS, 10, LEASE, queues=queues)

        assert {claim.task.task_id for claim in claims} == {task.task_id for task in own}
        assert [claim.task.engine for claim in claims] == [None] * 4
        assert await store.claim_due(OWNER, OPS, 10, LEASE, queues=queues) == []
        assert await store.next_due(OPS, queues=queues) is None

    async def test_it_has_no_queue_of_its_own(self, store: TaskStore) -> None:
        """Its engine brings it to any worker of its op: a queue is refused, and nothing created."""
        _require_engines(store)
        with pytest.raises(BadSetting, match="beside an engine"):
            await store.create(NewTask(new_task_id(), OPS[0], engine=ENGINE, queue="mail"))

        assert (await store.list()).tasks == ()

    async def test_it_waits_in_no_queue_for_a_worker(self, store: TaskStore) -> None:
        """A queue that no worker takes is not told of for what an engine brings."""
        await _create(store, ENGINE)
        await store.ops.tell(OWNER, OPS, LEASE, queues=["mail"])
        before = await store.backlog.read(max_age=0)
        await _create(store, None)
        after = await store.backlog.read(max_age=0)

        told = [[one.unserved for one in read.ops if one.op == OPS[0]] for read in (before, after)]
        assert told == [[()], [("default",)]]

    async def test_it_is_claimed_by_its_id(self, store: TaskStore) -> None:
        """As the engine's own worker does, and its row says what it is of, whoever reads it."""
        task = await _create(store, ENGINE)
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        read = await store.get(task.task_id)

        assert claim is not None
        assert (claim.task.engine, read.engine, read.status) == (ENGINE, ENGINE, TaskStatus.RUNNING)

    async def test_a_rescue_leaves_it_pending_whatever_ops_are_known(
        self, store: TaskStore
    ) -> None:
        """No worker has told of its op; with no retry left it fails as any other."""
        task = await _create(store, ENGINE, retries=1)
        results: list[RescueResult] = []
        for _ in range(2):
            row = await store.get(task.task_id)
            assert await store.claim_if_pending(row, OWNER, LEASE) is not None
            results += [
                one.result for one in await store.leases.rescue_expired(dead_owners=[OWNER])
            ]

        assert results == [RescueResult.RETRIED, RescueResult.FAILED]
        assert (await store.get(task.task_id)).error_code == "worker_lost"

    async def test_its_engine_is_asked_about_what_is_pending(self, store: TaskStore) -> None:
        """Once each time that is over, the longest waiting first, and of no other engine's."""
        tasks = [await _create(store, ENGINE) for _ in range(4)]
        await _create(store, "another")
        await _create(store, None)
        ids = [task.task_id for task in tasks]
        first = await store.engines.find_unconfirmed(ENGINE, limit=3)
        await store.engines.note_confirmed([ids[0], ids[1], new_task_id()], again_in=3_600)
        await store.engines.note_confirmed([ids[2]], again_in=0)
        assert await store.claim_if_pending(tasks[3], OWNER, LEASE) is not None
        second = await store.engines.find_unconfirmed(ENGINE)

        assert [task.task_id for task in first] == ids[:3]
        assert [task.task_id for task in second] == [ids[2]]
        assert [task.engine for task in first] == [ENGINE] * 3

    async def test_one_that_is_given_up_is_asked_about_again(self, store: TaskStore) -> None:
        """The engine may have forgotten it while it ran."""
        task = await _create(store, ENGINE, retries=1)
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        assert claim is not None
        assert await store.engines.find_unconfirmed(ENGINE) == []
        now = store.clock.now()
        await store.retry_later(claim.attempt, ErrorInfo("error", "once more"), now)

        assert [one.task_id for one in await store.engines.find_unconfirmed(ENGINE)] == [
            task.task_id
        ]

    async def test_what_is_overdue_is_counted(self, store: TaskStore) -> None:
        """Not what is new, nor what the engine has."""
        tasks = [await _create(store, ENGINE) for _ in range(3)]
        new = await store.engines.count_overdue(ENGINE, late=3_600)
        late = await store.engines.count_overdue(ENGINE, late=0)
        await store.engines.note_confirmed([tasks[0].task_id], again_in=3_600)
        left = await store.engines.count_overdue(ENGINE, late=0)

        assert new == (0, None)
        assert (late.tasks, left.tasks) == (3, 2)
        assert late.since_us == tasks[0].created_us

    async def test_what_waits_counts_them(self, store: TaskStore) -> None:
        """How much is due, and since when the first, whatever brings it."""
        _require_engines(store)
        now = store.clock.now()
        old = NewTask(new_task_id(), OPS[0], run_at=now - HOUR, engine=ENGINE, priority=3)
        await asyncio.gather(
            store.create(old), _create(store, None, priority=9), _create(store, "another")
        )
        backlog = await store.backlog.read(max_age=0)

        (one,) = (one for one in backlog.ops if one.op == OPS[0])
        assert one.due == 3
        assert one.oldest_due is not None
        assert one.oldest_due >= HOUR / 1e6

    async def test_a_store_has_one_name(self, store: TaskStore) -> None:
        """A few letters and digits, the same each time."""
        _require_engines(store)
        name = await store.engines.read_store_id()

        assert name.isalnum()
        assert 8 <= len(name) <= 32
        assert await store.engines.read_store_id() == name

    @pytest.mark.parametrize("engine", ["", "Temporal", "a b", "9x", "x" * 33, 7])
    async def test_a_name_of_an_engine_is_checked(self, store: TaskStore, engine: object) -> None:
        """As that of an entry point: it is part of names elsewhere."""
        with pytest.raises(BadSetting, match="engine"):
            await _create(store, engine)  # type: ignore[arg-type]  # what is refused


def _require_engines(store: TaskStore) -> None:
    if not store.engines.are_kept:
        pytest.skip("this store keeps no engines: a task of one is refused")


async def _create(
    store: TaskStore, engine: str | None, *, priority: int = 0, retries: int = 0
) -> Task:
    _require_engines(store)
    new = NewTask(new_task_id(), OPS[0], engine=engine, priority=priority, retries=retries)
    task, _ = await store.create(new)
    return task
