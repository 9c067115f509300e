"""Commit notifications come after the commit (invariant I9)."""

from __future__ import annotations

import asyncio

from tapescope.testing import settle_loop
from tapescope.testing.tasks import log, start
from tests.support.memory_stores import FaultyStore, Gate, at_rest


async def test_nobody_is_told_before_the_commit() -> None:
    """A subscriber hears nothing while the flush is under way (invariant I9)."""
    gate = Gate()
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        with store.changes(attempt.task_id) as subscription:
            await anext(subscription)  # the first "look again"
            store.faults.before = gate
            append = asyncio.ensure_future(store.append(attempt, [log()]))
            hearing = asyncio.ensure_future(anext(subscription))
            await gate.reached.wait()
            await settle_loop(20)
            early = hearing.done()
            gate.opened.set()
            await append
            change = await hearing

    assert not early
    assert [event.seq for event in change.events] == [2]
