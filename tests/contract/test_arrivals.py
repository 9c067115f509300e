"""Who waits for work is told when there may be some, here and in another process."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.model.tasks import ErrorInfo
from tapescope.store.notifications import Subscription
from tapescope.store.port import TaskStore
from tests.contract.work import OPS, create
from tests.support.memory_stores import LEASE, OWNER, log, settle_loop
from tests.support.polling import until

SHORT = 0.000_001


async def make_work(store: TaskStore, how: str) -> None:
    """Have one task wait for a claim, in one of the ways that it may come about."""
    if how == "created":
        await create(store)
        return
    (claim,) = await store.claim_due(OWNER, OPS, 1, SHORT)
    if how == "retried":
        await store.retry_later(claim.attempt, ErrorInfo("x"), store.clock.now())
    elif how == "released":
        await store.release(claim.attempt)
    else:
        expires = claim.task.lease_expires_us or 0
        await until(lambda: store.clock.now() > expires)
        await store.leases.rescue_expired(ops=OPS)


async def hear_of_work(store: TaskStore, subscription: Subscription) -> bool:
    """Wait to be told to look again when there is a pending task."""
    async with asyncio.timeout(10):
        while True:
            change = await anext(subscription)
            if change.task_id is None and await store.next_due(OPS) is not None:
                return True


@pytest.mark.parametrize("how", ["created", "retried", "released", "rescued"])
@pytest.mark.parametrize("every", [False, True], ids=["arrivals", "changes"])
async def test_work_is_told_of_in_the_process_that_made_it(
    store: TaskStore, how: str, every: bool
) -> None:
    """Whatever makes a task pending wakes a worker of the same store."""
    if how != "created":
        await create(store, retries=1)
    with store.changes() if every else store.arrivals() as subscription:
        await asyncio.wait_for(anext(subscription), 10)  # the first "look again"
        hearing = asyncio.ensure_future(hear_of_work(store, subscription))
        await make_work(store, how)
        heard = await hearing

    assert heard


@pytest.mark.parametrize("how", ["created", "retried", "released", "rescued"])
@pytest.mark.parametrize("every", [False, True], ids=["arrivals", "changes"])
async def test_work_is_told_of_elsewhere(
    store: TaskStore, second_store: TaskStore, how: str, every: bool
) -> None:
    """Whatever makes a task pending wakes a worker in another process."""
    if how != "created":
        await create(store, retries=1)
        (claim,) = await store.claim_due(OWNER, OPS, 1, LEASE)
        await store.release(claim.attempt)
    with second_store.changes() if every else second_store.arrivals() as subscription:
        await asyncio.wait_for(anext(subscription), 10)  # from here on it listens
        hearing = asyncio.ensure_future(hear_of_work(second_store, subscription))
        await make_work(store, how)
        heard = await hearing

    assert heard


async def test_arrivals_are_not_every_commit(store: TaskStore, second_store: TaskStore) -> None:
    """Events, claims and finishes wake no worker that waits: only what can be claimed does."""
    await create(store)
    (claim,) = await store.claim_due(OWNER, OPS, 1, LEASE)
    with (
        second_store.arrivals() as arrivals,
        second_store.changes(claim.task.task_id) as changes,
    ):
        async with asyncio.timeout(10):
            for subscription in (arrivals, changes):
                await anext(subscription)  # from here on it listens
            await store.append(claim.attempt, [log("a")])
            while (await second_store.read_tape(claim.task.task_id)).last_seq < 2:
                await anext(changes)
            heard = asyncio.ensure_future(anext(arrivals))
            await settle_loop()
            early = heard.done()
            await create(store)
            change = await heard

    assert not early
    assert change.task_id is None
