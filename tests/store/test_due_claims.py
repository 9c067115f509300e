"""Claims of due tasks whose caller is gone before the database has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store.orders import DueOrder, DueRow
from tapescope.store.validation import new_task_id
from tests.support.memory_stores import FaultyBackend, FaultyStore, at_rest


class SlowBackend(FaultyBackend):
    """A backend that has claimed, and whose answer is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed, self.told = asyncio.Event(), asyncio.Event()

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        """Claim, and answer once that is wanted."""
        rows = await super().claim_due(order)
        self.claimed.set()
        await self.told.wait()
        return rows


async def test_claims_on_their_way_to_a_caller_that_is_gone_are_given_back() -> None:
    """The call goes on without its caller, who hears of the cancel after that."""
    slow = SlowBackend()
    async with at_rest(FaultyStore(faults=slow)) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claiming = asyncio.ensure_future(store.claim_due("me", ["work"], 1, 60))
        await slow.claimed.wait()
        claiming.cancel()
        slow.told.set()
        with pytest.raises(asyncio.CancelledError):
            await claiming

        assert (await store.get(task.task_id)).status is TaskStatus.PENDING
