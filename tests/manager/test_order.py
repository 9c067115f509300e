"""Priority, as managers meet it: of an op and of a submit, for a worker and in a pool."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tapescope import BadSetting, Ops, Reporter, Submission, TaskManager, TaskStatus, find_store
from tapescope.testing import MemoryStore, until
from tests.support.callers import calling
from tests.support.workbench import working


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


class Hold:
    """A runner that keeps its slot until the test lets it go."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, report: Reporter) -> None:
        """Hold the slot."""
        self.begun.set()
        await self.go_on.wait()


async def test_a_submit_says_its_priority_or_takes_the_ops(store_url: str) -> None:
    """Of an op that is registered here or on the store only, one by one, in bulk and typed; where
    nobody has registered it, it is 0."""
    ops = Ops()
    urgent = ops.op("urgent", priority=5)(note)
    async with (
        TaskManager(store_url, ops=ops, poll=600) as worker,
        TaskManager(store_url) as submitter,
    ):
        worker.op("plain")(note)
        await worker.pause("urgent")
        await worker.pause("plain")
        await until(submitter_knows(submitter, "plain"))
        handles = [
            await submitter.submit("urgent"),
            await submitter.submit("urgent", priority=-2),
            await submitter.submit("plain"),
            await submitter.submit("unheard"),
            await urgent.options(manager=worker).submit(),
            await urgent.options(manager=worker, priority=0).submit(),
            *await submitter.submit_many([Submission("plain", priority=3), Submission("urgent")]),
        ]
        priorities = [(await handle.status()).priority for handle in handles]

    assert urgent.priority == 5
    assert priorities == [5, -2, 0, 0, 5, 0, 3, 5]


def submitter_knows(manager: TaskManager, op: str) -> Any:
    """Whether the op is on the store."""

    async def knows() -> bool:
        return op in await manager.store.ops.read()

    return knows


async def test_a_worker_begins_the_higher_priority_first(any_url: str) -> None:
    """Of what waits for a slot, of whichever op; a retry goes by the priority of its task."""
    begun: list[str] = []
    hold = Hold()

    async def work(report: Reporter, name: str) -> None:
        begun.append(name)
        if name == "fails" and begun.count(name) == 1:
            raise LookupError

    async with working(any_url, max_running=1, retry_delay=0, poll=0.05) as bench:
        for op in ("mail", "resize"):
            bench.manager.op(op, retries=1)(work)
        holder = await bench.manager.submit("hold", hold)
        await hold.begun.wait()
        waiting = [
            await bench.manager.submit(op, params={"name": name}, priority=priority)
            for op, name, priority in (
                ("mail", "low", -1),
                ("resize", "plain", 0),
                ("mail", "fails", 3),
                ("resize", "high", 2),
            )
        ]
        hold.go_on.set()
        for handle in (holder, *waiting):
            await handle.result(20)

    assert begun == ["fails", "fails", "high", "plain", "low"]


async def test_callables_wait_in_their_order(any_url: str) -> None:
    """Those of a manager, for its slots: by priority, then as they came. One that could be claimed
    with its creation comes after all that wait."""
    begun: list[str] = []
    hold = Hold()

    async def work(report: Reporter, name: str) -> None:
        begun.append(name)

    async with working(any_url, max_running=1) as bench:
        await bench.manager.submit("hold", hold)
        await hold.begun.wait()
        handles = [
            await bench.manager.submit("work", work, params={"name": name}, priority=priority)
            for name, priority in (("a", -1), ("b", None), ("c", 9), ("d", 0), ("e", 9))
        ]
        await handles[1].cancel("not this one")
        hold.go_on.set()
        for handle in (handles[0], *handles[2:]):
            await handle.result(20)
        rows = [(await handle.status()).priority for handle in handles]

    assert begun == ["c", "e", "d", "a"]
    assert rows == [-1, 0, 9, 0, 9]


async def test_a_task_again_has_the_priority_that_it_had(any_url: str) -> None:
    """Where an ended task is submitted again, whatever the op says by now."""
    async with working(any_url) as bench:
        bench.manager.op("work", priority=1)(note)
        first = await bench.manager.submit("work", priority=7)
        await first.result(20)
        again = await bench.manager.resubmit(first.task_id)

        assert (await again.status()).priority == 7


async def test_a_task_in_a_callers_transaction_has_its_priority(store_url: str) -> None:
    """Said by the submit or by the op."""
    async with (
        TaskManager(store_url, work=False) as manager,
        calling(store_url) as caller,
    ):
        manager.op("bill", priority=2)(note)
        async with caller.transaction():
            await caller.execute("INSERT INTO orders VALUES (1)")
            handles = [
                await manager.submit("bill", connection=caller.connection, priority=priority)
                for priority in (None, -9, 0)
            ]
        priorities = [(await handle.status()).priority for handle in handles]

    assert priorities == [2, -9, 0]


async def test_the_tasks_of_a_schedule_have_its_priority(any_url: str) -> None:
    """Its own, or the op's; what the code says later replaces it, and the store keeps it."""
    async with working(any_url, work=False) as bench:
        bench.manager.op("build", priority=4)(note)
        schedules = bench.manager.schedules
        await schedules.add("own", Submission("build", priority=-5), every=86_400)
        await schedules.add("ops", "build", every=86_400)
        fired = [await schedules.trigger(name) for name in ("own", "ops")]
        kept = [(await schedules.get(name)).priority for name in ("own", "ops")]
        priorities = [(await handle.status()).priority for handle in fired]
        await schedules.ensure("own", Submission("build", priority=-5), every=86_400)
        own = await bench.store.schedules.get("own")
        changed = await bench.store.schedules.change_if_same(replace(own, priority=6))

        assert kept == [-5, None]
        assert priorities == [-5, 4]
        assert changed
        assert (await schedules.get("own")).priority == 6


@pytest.mark.parametrize("priority", [10, -10, 1.5, "high"])
async def test_a_priority_is_one_of_a_few(priority: Any) -> None:
    """Where an op is registered, a task submitted, and what is to be submitted later made."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        for refused in (
            lambda: manager.op("work", priority=priority),
            lambda: Submission("work", priority=priority).checked(),
            lambda: manager.schedules.add("x", Submission("work", priority=priority), every=60),
            lambda: manager.submit("work", priority=priority),
        ):
            with pytest.raises(BadSetting, match="a whole number from -9 to 9"):
                await asyncio.ensure_future(met) if asyncio.iscoroutine(met := refused()) else met

        assert (await store.count())[TaskStatus.PENDING] == 0


async def test_priorities_of_a_store_are_those_of_any_process(store_url: str) -> None:
    """A second process reads what the first wrote, in a list as well."""
    async with find_store(store_url) as store, TaskManager(store_url, work=False) as manager:
        handle = await manager.submit("work", priority=8)
        (listed,) = (await store.list()).tasks

    assert (listed.task_id, listed.priority) == (handle.task_id, 8)
