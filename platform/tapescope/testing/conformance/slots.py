"""Slots: of an op no more tasks with one concurrency key run at once than it has slots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from tapescope.errors import BadSetting
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import (
    HOUR,
    LEASE,
    OPS,
    OTHER,
    OWNER,
    SHORT,
    create_keyed,
    log,
    outlast_lease,
)

ERROR = ErrorInfo("ValueError", "no luck")


async def _succeed(store: TaskStore, claim: Claim) -> None:
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded(None))


async def _fail(store: TaskStore, claim: Claim) -> None:
    await store.finish_if_running(claim.attempt, FinalEvent.failed(ERROR))


async def _retry(store: TaskStore, claim: Claim) -> None:
    await store.retry_later(claim.attempt, ERROR, store.clock.now() + HOUR)


async def _cancel_in_a_retry(store: TaskStore, claim: Claim) -> None:
    await store.request_cancel(claim.task.task_id)
    await store.retry_later(claim.attempt, ERROR, store.clock.now())


async def _release_and_cancel(store: TaskStore, claim: Claim) -> None:
    await store.release(claim.attempt)
    await store.request_cancel(claim.task.task_id)


async def _lose(store: TaskStore, claim: Claim) -> None:
    await outlast_lease(store, claim)
    await store.leases.rescue_expired()


async def _lose_and_retry(store: TaskStore, claim: Claim) -> None:
    await outlast_lease(store, claim)
    await store.leases.rescue_expired(ops={"work"})
    await store.request_cancel(claim.task.task_id)


_FREES: dict[str, Callable[[TaskStore, Claim], Awaitable[None]]] = {
    "success": _succeed,
    "failure": _fail,
    "retry": _retry,
    "cancel while running": _cancel_in_a_retry,
    "release, and cancel": _release_and_cancel,
    "loss": _lose,
    "loss with a retry, and cancel": _lose_and_retry,
}


class SlotsConformance(StoreSuite):
    """Slots: of an op no more tasks with one concurrency key run at once than it has slots."""

    async def test_no_more_run_than_there_are_slots(self, store: TaskStore) -> None:
        """Of each key; what has no slot is pending and parked, and other tasks go by it."""
        await store.ops.register([KnownOp("work", max_concurrent=2), KnownOp("other")])
        tasks = [
            await create_keyed(store, key) for key in ("a", "a", "a", "b", None, "a", "b", "b")
        ]
        others = [await create_keyed(store, "a", op="other") for _ in range(3)]
        claims = await _claim(store, 100)
        again = await _claim(store, 100)
        rows = [await store.get(task.task_id) for task in tasks]

        assert [task.parked for task in tasks] == [True] * 4 + [False] + [True] * 3
        assert {one.task.task_id for one in claims} == {
            task.task_id for task in (*(tasks[n] for n in (0, 1, 3, 4, 6)), *others)
        }
        assert not any(one.task.parked for one in claims)
        assert again == []
        assert [row.status.value for row in rows if row.parked] == ["pending"] * 3
        assert [row.parked for row in rows] == [n in (2, 5, 7) for n in range(8)]
        assert [row.run_us for row in rows] == [task.run_us for task in tasks]
        assert await store.next_due(["work"]) is None

    @pytest.mark.parametrize("how", _FREES)
    async def test_a_slot_is_free_when_its_attempt_ends(self, store: TaskStore, how: str) -> None:
        """However it ends: the next task of the key has it, and no slot is lost."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        first = await create_keyed(store, "k", retries=1)
        (claim,) = await _claim(store, 5, lease=SHORT if how.startswith("loss") else LEASE)
        waiting = [await create_keyed(store, "k") for _ in range(3)]
        assert await _claim(store, 5) == []
        await _FREES[how](store, claim)
        claimed: list[str] = []
        for _ in waiting:
            (one,) = await _claim(store, 5)
            claimed.append(one.task.task_id)
            await _succeed(store, one)

        assert claim.task.task_id == first.task_id
        assert claimed == [task.task_id for task in waiting]
        assert await _claim(store, 5) == []

    async def test_what_gave_its_slot_up_waits_for_one(self, store: TaskStore) -> None:
        """A retry that is due later, and a release: the task is parked again, in its order."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        now = store.clock.now()
        first = await create_keyed(store, "k", run_at=now - HOUR)
        (claim,) = await _claim(store, 5)
        second = await create_keyed(store, "k", run_at=now - HOUR // 2)
        await store.retry_later(claim.attempt, ERROR, now + HOUR)
        retrying = await store.get(first.task_id)
        (other,) = await _claim(store, 5)
        await store.release(other.attempt)
        released = await store.get(second.task_id)
        (again,) = await _claim(store, 5)
        await _succeed(store, again)
        none = await _claim(store, 5)

        assert (retrying.parked, retrying.run_us) == (True, now + HOUR)
        assert released.parked
        assert other.task.task_id == again.task.task_id == second.task_id
        assert none == []
        assert await store.next_due(["work"]) == now + HOUR

    async def test_the_order_among_the_parked(self, store: TaskStore) -> None:
        """The higher priority, then the longest due, then the older one; none before its time."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        now = store.clock.now()
        given = [(0, 0), (0, -2), (5, -1), (-9, -9), (9, 3), (5, -2), (0, -2)]
        tasks = [
            await create_keyed(store, "k", priority=priority, run_at=now + hours * HOUR)
            for priority, hours in given
        ]
        order: list[str] = []
        for _ in range(6):
            (one,) = await _claim(store, 3)
            order.append(one.task.task_id)
            await _succeed(store, one)

        assert order == [tasks[n].task_id for n in (5, 2, 1, 6, 0, 3)]
        assert await _claim(store, 3) == []
        assert await store.next_due(["work"]) == now + 3 * HOUR

    async def test_a_claim_takes_no_more_than_it_may(self, store: TaskStore) -> None:
        """And what it leaves of a key with free slots goes to the next one, key after key."""
        await store.ops.register([KnownOp("work", max_concurrent=10)])
        tasks = [await create_keyed(store, key) for key in "abab" for _ in range(3)]
        sizes = [1, 2, 3, 5, 8]
        claims = [await _claim(store, size) for size in sizes]
        claimed = [one.task.task_id for some in claims for one in some]

        assert [len(some) for some in claims] == [1, 2, 3, 5, 1]
        assert sorted(claimed) == sorted(task.task_id for task in tasks)

    async def test_no_key_waits_behind_another(self, store: TaskStore) -> None:
        """However much is parked of a key that is full, the next claim has a task of the other."""
        await store.ops.register([KnownOp("work", max_concurrent=2)])
        since = store.clock.now() - HOUR
        await asyncio.gather(*(create_keyed(store, "a", run_at=since + n) for n in range(300)))
        await asyncio.gather(*(create_keyed(store, "z") for _ in range(6)))
        first = [await _claim(store, 1) for _ in range(4)]
        held = {key: [one for (one,) in first if one.task.concurrency_key == key] for key in "az"}
        order: list[str | None] = []
        for key in "zaazzaz":
            await _succeed(store, held[key].pop(0))
            (one,) = await _claim(store, 1)
            held[key].append(one)
            order.append(one.task.concurrency_key)

        assert {key: len(some) for key, some in held.items()} == {"a": 2, "z": 2}
        assert "".join(map(str, order)) == "zaazzaz"
        assert await _claim(store, 1) == []

    async def test_a_cancel_ends_a_parked_task(self, store: TaskStore) -> None:
        """At once, and the others of its key are as they were."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        await create_keyed(store, "k")
        (claim,) = await _claim(store, 5)
        parked, last = [await create_keyed(store, "k") for _ in range(2)]
        await store.request_cancel(parked.task_id)
        ended = await store.get(parked.task_id)
        blocked = await _claim(store, 5)
        await _succeed(store, claim)
        (after,) = await _claim(store, 5)

        assert (ended.status, ended.parked) == (TaskStatus.CANCELLED, False)
        assert (blocked, after.task.task_id) == ([], last.task_id)

    async def test_an_op_may_change_its_slots(self, store: TaskStore) -> None:
        """More are given at once; with fewer, nothing new begins until that many are held."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        for _ in range(6):
            await create_keyed(store, "k")
        first = await _claim(store, 9)
        await store.ops.register([KnownOp("work", max_concurrent=3)])
        second = await _claim(store, 9)
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        await _succeed(store, first[0])
        none = await _claim(store, 9)
        for claim in second:
            await _succeed(store, claim)
        third = await _claim(store, 9)
        await store.ops.register([KnownOp("work")])
        rest = await _claim(store, 9)
        known = await store.ops.read()

        assert list(map(len, (first, second, none, third, rest))) == [1, 2, 0, 1, 2]
        assert known["work"].max_concurrent is None

    async def test_a_parked_task_is_claimed_by_no_other_way(self, store: TaskStore) -> None:
        """Not by its id either, and not with its creation."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        task = await create_keyed(store, "k")

        assert await store.claim_if_pending(task, OWNER, LEASE) is None
        with pytest.raises(BadSetting, match="concurrency_key"):
            await store.create_claimed(
                NewTask(new_task_id(), "work", concurrency_key="k"), OWNER, LEASE
            )

    async def test_two_processes_never_run_too_many(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """They claim, end and release as fast as they can: all tasks end, and of no key are more
        held than it has slots."""
        both = (store, second_store)
        await store.ops.register([KnownOp("work", max_concurrent=2)])
        await asyncio.gather(*(create_keyed(both[n % 2], f"k{n % 3}") for n in range(24)))
        running: dict[str | None, set[str]] = {}
        most: list[int] = []

        async def work(own: TaskStore, owner: str) -> None:
            released = False
            while (await own.count())[TaskStatus.PENDING]:
                for claim in await own.claim_due(owner, OPS, 3, LEASE):
                    mine = running.setdefault(claim.task.concurrency_key, set())
                    mine.add(claim.task.task_id)
                    most.append(len(mine))
                    await own.append(claim.attempt, [log()])
                    mine.remove(claim.task.task_id)
                    if released:
                        await _succeed(own, claim)
                    else:
                        await own.release(claim.attempt)
                    released = not released

        await asyncio.gather(*(work(own, owner) for own in both for owner in (OWNER, OTHER)))

        assert (await store.count())[TaskStatus.SUCCEEDED] == 24
        assert 1 <= max(most) <= 2

    async def test_what_is_parked_is_not_due(self, store: TaskStore) -> None:
        """In the numbers of what waits it is scheduled, or retrying; what holds a slot runs."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        for _ in range(4):
            await create_keyed(store, "k", retries=1)
        (claim,) = await _claim(store, 9)
        await store.retry_later(claim.attempt, ERROR, store.clock.now())
        (one,) = (await store.backlog.read(max_age=0)).ops
        counts = await store.backlog.recount()

        assert (one.due, one.scheduled, one.retrying, one.running) == (0, 3, 1, 0)
        assert one.oldest_due is None
        assert not any(count.differs for count in counts)

    async def test_a_pause_holds_what_is_parked(self, store: TaskStore) -> None:
        """And nothing is given a slot meanwhile, also where another op's task is given one; nor for
        a worker that drains."""
        await store.ops.register([KnownOp(op, max_concurrent=1) for op in OPS])
        held = await create_keyed(store, "k")
        await store.ops.pause("work")
        paused = (await _claim(store, 5), await store.next_due(OPS))
        goes_on = await create_keyed(store, "k", op=OPS[-1])
        beside = [one.task.task_id for one in await _claim(store, 5)]
        still = await store.get(held.task_id)
        await store.ops.resume("work")
        await store.ops.tell(OWNER, ["work"], LEASE)
        await store.ops.drain(OWNER)
        drained = await _claim(store, 5)
        claims = await store.claim_due(OTHER, OPS, 5, LEASE)

        assert paused == ([], None)
        assert (beside, still.parked) == ([goes_on.task_id], True)
        assert drained == []
        assert len(claims) == 1


async def _claim(store: TaskStore, limit: int, lease: float = LEASE) -> Sequence[Claim]:
    return await store.claim_due(OWNER, OPS, limit, lease)
