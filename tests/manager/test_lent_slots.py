"""Runners that wait for tasks and lend their slots: nothing is stuck, and no more than that run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from tapescope import Reporter, ResultTimeout, TaskCancelled, TaskHandle, TaskManager
from tapescope.model.tasks import TaskStatus
from tapescope.store.port import TaskStore
from tapescope.testing import until
from tests.support.memory_stores import FaultyStore, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import working


@asynccontextmanager
async def lending(
    store: TaskStore, *, max_running: int = 1, max_lent: int = 1
) -> AsyncGenerator[TaskManager]:
    """A manager, closed at once at the end; all its slots are free then, and none is lent."""
    manager = TaskManager(
        store, max_running=max_running, max_lent=max_lent, drain=0, cancel_grace=0.05
    )
    async with manager:
        yield manager
    pool = manager._pool  # pyright: ignore[reportPrivateUsage]  # its account of slots
    lent = vars(pool.lent)
    assert vars(pool)["_free"] == max_running
    assert [lent["_lent"], lent["_waits"], lent["_returning"]] == [set(), {}, {}]


async def wait_for(store: TaskStore, number: int, op: str) -> None:
    """Wait, in virtual time, until so many tasks of an op have been made."""

    async def made() -> bool:
        return len((await store.list(op=op)).tasks) == number

    await until(made, pause=lambda: asyncio.sleep(0.01))


@pytest.mark.parametrize("registered", [False, True])
async def test_a_runner_may_wait_for_a_task_of_its_own_pool(any_url: str, registered: bool) -> None:
    """With one slot a parent waits for its child, which has the slot meanwhile."""

    async def child(report: Reporter) -> str:
        return "done"

    async def parent(report: Reporter) -> str:
        task = await manager.submit("child", None if registered else child)
        return str(await task.result())

    async with working(any_url) as bench, lending(bench.store) as manager:
        if registered:
            manager.op("child")(child)
        task = await manager.submit("parent", parent)

        assert await task.result(30) == "done"


@in_virtual_time
async def test_no_more_are_lent_than_may_be() -> None:
    """A chain of waits is as long as max_lent, and the run that holds the slot."""

    async def link(report: Reporter, left: int) -> int:
        if not left:
            return 0
        task = await manager.submit("link", link, params={"left": left - 1})
        return 1 + int(await task.result())

    async with at_rest(FaultyStore()) as store, lending(store, max_lent=3) as manager:
        task = await manager.submit("link", link, params={"left": 3})

        assert await task.result(60) == 3
        with pytest.raises(ResultTimeout):
            await (await manager.submit("link", link, params={"left": 4})).result(60)


@in_virtual_time
async def test_who_has_waited_goes_before_what_has_not_begun() -> None:
    """The slot that gets free first is the parent's, whatever else waits for one."""
    order: list[str] = []
    go = asyncio.Event()

    async def child(report: Reporter) -> None:
        await go.wait()
        order.append("child")

    async def parent(report: Reporter) -> None:
        await (await manager.submit("child", child)).result()
        order.append("parent")

    async def other(report: Reporter) -> None:
        order.append("other")

    async with at_rest(FaultyStore()) as store, lending(store) as manager:
        manager.op("named")(other)
        tasks = [await manager.submit("parent", parent)]
        await wait_for(store, 1, "child")
        tasks += [await manager.submit("other", other) for _ in range(2)]
        tasks += [await manager.submit("named") for _ in range(2)]
        go.set()
        for task in tasks:
            await task.result(60)

    assert order == ["child", "parent", *["other"] * 4]


@in_virtual_time
async def test_a_runner_that_gathers_lends_until_its_last_wait_is_over() -> None:
    """Its slot is not taken back with the first of several results."""

    async def child(report: Reporter, n: int) -> int:
        return n

    async def parent(report: Reporter) -> int:
        tasks = [await manager.submit("child", child, params={"n": n}) for n in range(5)]
        return sum(await asyncio.gather(*(task.result() for task in tasks)))

    async with at_rest(FaultyStore()) as store, lending(store) as manager:
        task = await manager.submit("parent", parent)

        assert await task.result(60) == 10


@in_virtual_time
async def test_who_is_stopped_does_not_wait_for_a_slot() -> None:
    """Where a wait runs out, its runner goes on at once, and the next slot that is free is its."""
    child_ends, parent_ends = asyncio.Event(), asyncio.Event()

    async def child(report: Reporter) -> None:
        await child_ends.wait()

    async def parent(report: Reporter) -> str:
        task = await manager.submit("child", child)
        try:
            await task.result(1)
        except ResultTimeout:
            child_ends.set()  # only now: it goes on while its child has the slot
            await parent_ends.wait()
        return "gave up"

    async def other(report: Reporter) -> str:
        return "done"

    async with at_rest(FaultyStore()) as store, lending(store) as manager:
        task = await manager.submit("parent", parent)
        await wait_for(store, 1, "child")
        waiting = await manager.submit("other", other)
        with pytest.raises(ResultTimeout):
            await waiting.result(60)
        parent_ends.set()

        assert await task.result(60) == "gave up"
        assert await waiting.result(60) == "done"


@in_virtual_time
async def test_who_is_cancelled_does_not_wait_for_a_slot() -> None:
    """A parent ends by its cancel while its child has the slot; that is free after the child."""
    child_ends = asyncio.Event()

    async def child(report: Reporter) -> str:
        await child_ends.wait()
        return "done"

    async def parent(report: Reporter) -> None:
        await (await manager.submit("child", child)).result()

    async with at_rest(FaultyStore()) as store, lending(store) as manager:
        task = await manager.submit("parent", parent)
        await wait_for(store, 1, "child")
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result(60)
        child_ends.set()

        assert await (await manager.submit("child", child)).result(60) == "done"


@in_virtual_time
async def test_who_is_fenced_with_its_slot_lent_frees_it_once() -> None:
    """A runner of which one part waits, and another does not heed its cancel."""
    go = asyncio.Event()

    async def child(report: Reporter) -> None:
        await go.wait()

    async def parent(report: Reporter) -> None:
        waiting = asyncio.ensure_future((await manager.submit("child", child)).result())
        while not go.is_set():
            with suppress(asyncio.CancelledError):
                await go.wait()
        await waiting

    async with at_rest(FaultyStore()) as store, lending(store) as manager:
        task = await manager.submit("parent", parent)
        await wait_for(store, 1, "child")
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result(60)
        held = vars(manager._pool)["_free"]  # pyright: ignore[reportPrivateUsage]  # the child has it
        go.set()

    assert held == 0


async def test_the_limit_of_an_op_is_never_lent(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A runner that waits for a task of its own op, of which one may run, is stuck, and named."""
    async with (
        working(sqlite_url) as bench,
        lending(bench.store, max_running=5, max_lent=5) as manager,
    ):

        @manager.op("work", max_running=1)
        async def work(report: Reporter) -> None:
            await (await manager.submit("work")).result()

        task = await manager.submit("work")
        await until(lambda: "which waits for a slot" in caplog.text)
        statuses = sorted(row.status.value for row in (await bench.store.list()).tasks)
        for row in (await bench.store.list()).tasks:
            await bench.store.request_cancel(row.task_id)
        with pytest.raises(TaskCancelled):
            await task.result(30)

    assert statuses == ["pending", "running"]


@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_any_family_of_tasks_ends_and_leaves_the_slots_as_they_were(
    seed: int, patient: bool
) -> None:
    """Parents that wait, gather, run out of patience, fail or are cancelled, many at once."""
    draw = random.Random(seed)
    active = most = 0

    @asynccontextmanager
    async def at_work() -> AsyncGenerator[None]:
        nonlocal active, most
        active += 1
        most = max(most, active)
        try:
            await asyncio.sleep(draw.random())
            yield
        finally:
            active -= 1

    async def work(report: Reporter, depth: int) -> None:
        async with at_work():
            number = draw.randrange(4) if depth else 0
        children = await asyncio.gather(*(submit(depth - 1) for _ in range(number)))
        patience = None if patient else draw.choice([None, 0.2, 1.0])
        with suppress(ResultTimeout, TaskCancelled):
            await asyncio.gather(*(child.result(patience) for child in children))
        async with at_work():
            if draw.random() < 0.1:
                raise RuntimeError("planned")

    async def submit(depth: int) -> TaskHandle:
        if draw.random() < 0.5:
            return await manager.submit("named", params={"depth": depth})
        return await manager.submit("adhoc", work, params={"depth": depth})

    async def cancel_some(tasks: list[TaskHandle]) -> None:
        for task in draw.sample(tasks, 3):
            await asyncio.sleep(draw.random())
            await task.cancel()

    async def ended() -> bool:
        counts = await store.count()
        return not counts[TaskStatus.PENDING] + counts[TaskStatus.RUNNING]

    async with (
        at_rest(FaultyStore()) as store,
        lending(store, max_running=3, max_lent=30) as manager,
    ):
        manager.op("named", retries=0)(work)
        tasks = [await submit(2) for _ in range(8)]
        await cancel_some(tasks)
        await until(ended, pause=lambda: asyncio.sleep(0.1))
        counts = await store.count()

    assert counts[TaskStatus.SUCCEEDED]
    assert most == 3 if patient else 3 <= most <= 3 + 30
