"""Submitting in a transaction of the caller's: the task runs after the commit, or never."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tapescope.errors import BadSetting, UnknownTask
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.run.reporter import Reporter
from tests.support.callers import calling


async def bill(report: Reporter, order: int) -> int:
    return order


async def test_committed_task_runs_and_a_rolled_back_one_never_was(store_url: str) -> None:
    """Workers hear of the task at the commit; its handle was given before."""
    async with TaskManager(store_url) as manager, calling(store_url) as caller:
        manager.op("bill")(bill)
        async with caller.transaction():
            await caller.execute("INSERT INTO orders VALUES (1)")
            kept = await manager.submit("bill", params={"order": 1}, connection=caller.connection)
        undone: list[TaskHandle] = []
        with suppress(LookupError):
            async with caller.transaction():
                undone.append(
                    await manager.submit(
                        "bill", bill, params={"order": 2}, connection=caller.connection
                    )
                )
                raise LookupError
        result = await kept.result(20)
        with pytest.raises(UnknownTask):
            await undone[0].status()
        counts = await manager.store.count()

    assert result == 1
    assert sum(counts.values()) == 1


async def test_worker_of_another_manager_runs_it(store_url: str) -> None:
    """A process that only submits hands its tasks to a worker that has the op."""
    async with (
        TaskManager(store_url) as submits,
        TaskManager(store_url) as works,
        calling(store_url) as caller,
    ):
        works.op("bill")(bill)
        async with caller.transaction():
            handles = [
                await submits.submit("bill", params={"order": n}, connection=caller.connection)
                for n in range(5)
            ]
        results = await asyncio.gather(*(handle.result(20) for handle in handles))

    assert results == list(range(5))


async def test_callable_of_this_process_is_refused(store_url: str) -> None:
    """This process would not learn when to run it, so nothing is inserted."""
    async with TaskManager(store_url) as manager, calling(store_url) as caller:
        async with caller.transaction():
            with pytest.raises(BadSetting, match="run by its name"):
                await manager.submit(
                    "bill", bill, params={"order": 1}, connection=caller.connection
                )
        counts = await manager.store.count()

    assert sum(counts.values()) == 0
