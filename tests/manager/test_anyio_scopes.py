"""A cancelled anyio scope around what must end what it has begun: the loop sleeps meanwhile.

anyio cancels again at each turn of the loop. The loop of virtual time fails when it does not sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest

from tapescope import Reporter, TaskManager
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import NewTask
from tapescope.store.flush import Flush
from tapescope.store.orders import DueOrder, DueRow
from tapescope.store.validation import new_task_id
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import started


class SlowBackend(FaultyBackend):
    """A database that takes two seconds for each of these."""

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        await asyncio.sleep(2)
        return await super().claim_due(order)

    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        await asyncio.sleep(2)
        await super().register_ops(ops)


async def close_a_manager(store: FaultyStore) -> None:
    """A manager in the scope is closed by the cancel, and its runner cleans up."""

    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)

    async with TaskManager(store, drain=60) as manager:
        await started(await manager.submit("work", work))
        await asyncio.Event().wait()


async def claim(store: FaultyStore) -> None:
    """A claim of due tasks is under way, and is given back."""
    await store.claim_due("me", ["work"], 1, 60)


async def change(store: FaultyStore) -> None:
    """A write that is no flush is under way."""
    await store.ops.register([KnownOp("work", None, 3)])


async def give_up(store: FaultyStore) -> None:
    """An attempt's release is under way."""

    async def wait(flush: Flush) -> None:
        await asyncio.sleep(2)

    task, _ = await store.create(NewTask(new_task_id(), "work"))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    store.faults.before = wait
    await store.release(claim.attempt)


@pytest.mark.parametrize("work", [close_a_manager, claim, change, give_up])
@in_virtual_time
async def test_the_loop_sleeps(work: Callable[[FaultyStore], Awaitable[None]]) -> None:
    """What was begun ends in its own time, without a loop that spins until then."""
    async with at_rest(FaultyStore(faults=SlowBackend())) as store:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with anyio.move_on_after(1) as scope:
            await work(store)
        seconds = loop.time() - began
        counts = await store.count()

    assert scope.cancelled_caught == (work is not give_up)
    assert 2 <= seconds <= 3
    assert not [status for status, n in counts.items() if n and status.value == "running"]
