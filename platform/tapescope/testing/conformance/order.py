"""What goes first among the tasks that wait: the higher priority, then the longest due."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import BadSetting
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import PRIORITIES, Claim, ErrorInfo, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OPS, OTHER, OWNER


class OrderConformance(StoreSuite):
    """What goes first among the tasks that wait: the higher priority, then the longest due."""

    async def test_the_higher_priority_goes_first(self, store: TaskStore) -> None:
        """Whichever op it is of, and however long the others have waited."""
        now = store.clock.now()
        priorities = [0, 9, -9, 3, 0, 3, 9]
        new = [
            NewTask(new_task_id(), OPS[n % 2], run_at=now - HOUR + n, priority=priority)
            for n, priority in enumerate(priorities)
        ]
        await asyncio.gather(*(store.create(one) for one in new))
        claims = [await store.claim_due(OWNER, OPS, limit, LEASE) for limit in (3, 10)]

        assert [[claim.task.task_id for claim in some] for some in claims] == [
            [new[n].task_id for n in (1, 6, 3)],
            [new[n].task_id for n in (5, 0, 4, 2)],
        ]

    async def test_claims_of_any_size_keep_the_order(self, store: TaskStore) -> None:
        """Of every priority and two ops, some due later: each claim takes those that come next."""
        now = store.clock.now()
        new = [
            NewTask(
                new_task_id(),
                OPS[n % 2],
                run_at=now + HOUR if n % 5 == 0 else now - HOUR + 7 * n % 50,
                priority=PRIORITIES[n % len(PRIORITIES)],
            )
            for n in range(4 * len(PRIORITIES))
        ]
        made = await asyncio.gather(*(store.create(one) for one in new))
        due = [task for task, _ in made if task.run_us < now]
        due.sort(key=lambda task: (-task.priority, task.run_us, task.key))
        sizes = [1, 2, 3, 5, 8, 13, 100]
        claimed = [
            claim.task.task_id
            for size in sizes
            for claim in await store.claim_due(OWNER, OPS, size, LEASE)
        ]

        assert claimed == [task.task_id for task in due]
        assert await store.claim_due(OWNER, OPS, 1, LEASE) == []

    async def test_a_claim_goes_on_with_the_longest_due_of_the_next_priority(
        self, store: TaskStore
    ) -> None:
        """Of every op, for as many as the higher priority has left room for."""
        now = store.clock.now()
        for a, b in (OPS, OPS[::-1]):
            waiting = [(a, 1), (a, 0), (b, 0), (a, 0), (b, 0), (a, 0)]
            new = [
                NewTask(new_task_id(), op, run_at=now - HOUR + n, priority=priority)
                for n, (op, priority) in enumerate(waiting)
            ]
            await asyncio.gather(*(store.create(one) for one in new))
            claims = [await store.claim_due(OWNER, OPS, 3, LEASE) for _ in range(2)]

            assert [[claim.task.task_id for claim in some] for some in claims] == [
                [one.task_id for one in part] for part in (new[:3], new[3:])
            ]

    async def test_what_is_due_later_holds_up_nothing(self, store: TaskStore) -> None:
        """A task of a high priority that is due in an hour waits behind all that are due now."""
        now = store.clock.now()
        later = NewTask(new_task_id(), "work", run_at=now + HOUR, priority=9)
        low = NewTask(new_task_id(), "work", run_at=now - HOUR, priority=-9)
        await store.create(later)
        alone = await store.claim_due(OWNER, OPS, 10, LEASE), await store.next_due(OPS)
        await store.create(low)
        first_due = await store.next_due(OPS)
        claims = await store.claim_due(OWNER, OPS, 10, LEASE)

        assert alone == ([], later.run_at)
        assert first_due == low.run_at
        assert [claim.task.task_id for claim in claims] == [low.task_id]
        assert await store.next_due(OPS) == later.run_at

    async def test_a_task_keeps_its_priority(self, store: TaskStore) -> None:
        """Claimed, released, retried and read: so its next attempt goes before others, too."""
        now = store.clock.now()
        new = NewTask(new_task_id(), "work", retries=1, priority=2)
        await store.create(new)
        first = await claim_one(store)
        await store.release(first.attempt)
        second = await claim_one(store)
        await store.retry_later(second.attempt, ErrorInfo("x"), now - HOUR)
        await store.create(NewTask(new_task_id(), "work", run_at=now - 2 * HOUR, priority=1))
        third = await claim_one(store)
        page = await store.list(status=TaskStatus.RUNNING)

        assert [one.task.task_id for one in (first, second, third)] == [new.task_id] * 3
        assert [one.task.priority for one in (first, second, third)] == [2, 2, 2]
        assert [task.priority for task in page.tasks] == [2]
        assert third.task == await store.get(new.task_id)

    async def test_a_task_that_is_born_running_has_its_priority(self, store: TaskStore) -> None:
        """What is created and claimed at once, and what was there by its key, say theirs."""
        born, _, claim = await store.create_claimed(
            NewTask(new_task_id(), "born", priority=-3), OWNER, LEASE
        )
        keyed = [
            await store.create(
                NewTask(new_task_id(), "work", idempotency_key="key", priority=priority)
            )
            for priority in (4, 5)
        ]

        assert claim is not None
        assert (born.priority, claim.task.priority) == (-3, -3)
        assert [(task.priority, created) for task, created in keyed] == [(4, True), (4, False)]

    @pytest.mark.parametrize("priority", [10, -10, 0.5, "1", None])
    async def test_a_priority_is_one_of_a_few(self, store: TaskStore, priority: object) -> None:
        """Another one is refused, and nothing is created."""
        new = NewTask(new_task_id(), "work", priority=priority)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
        with pytest.raises(BadSetting, match="a whole number from -9 to 9"):
            await store.create(new)

        assert (await store.list()).tasks == ()

    async def test_an_op_says_the_priority_of_its_tasks(self, store: TaskStore) -> None:
        """What a worker registered last counts."""
        await store.ops.register([KnownOp("work", priority=3), KnownOp("other")])
        await store.ops.register([KnownOp("work", priority=-1)])
        known = await store.ops.read()

        assert {name: one.priority for name, one in known.items()} == {"work": -1, "other": 0}


async def claim_one(store: TaskStore) -> Claim:
    """Claim what goes first."""
    (claim,) = await store.claim_due(OTHER, OPS, 1, LEASE)
    return claim
