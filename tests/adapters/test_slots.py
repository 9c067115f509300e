"""Slots in the databases: the turns of keys, and sessions that hold one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Claim, FinalEvent
from tapescope.store.validation import new_task_id
from tapescope.testing.tasks import log, outlast_lease
from tests.support.postgres_sessions import session

if TYPE_CHECKING:
    from tests.support.services import Postgres


async def test_keys_take_turns_at_the_place_of_a_worker(store_url: str) -> None:
    """What one key has parked with slots to spare has no place before the other key's."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=2)])
        await create(store, *"a" * 50)
        await create(store, *"z" * 6)
        keys = ""
        for _ in range(14):
            (claim,) = await claim_some(store, 1)
            keys += str(claim.task.concurrency_key)
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())

    assert keys == "az" * 6 + "aa"


async def test_full_keys_of_one_op_are_not_before_another_op(store_url: str) -> None:
    """However many of them are to be looked at."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=1), KnownOp("y", max_concurrent=1)])
        full = [f"k{n}" for n in range(70)]
        await create(store, *full)
        assert len(await claim_some(store, 70)) + len(await claim_some(store, 70)) == 70
        await create(store, *full)
        await create(store, "free", op="y")
        (claim,) = await claim_some(store, 5)

    assert claim.task.op == "y"


async def test_a_session_that_holds_a_key_keeps_no_other_waiting(
    postgres_server: Postgres,
) -> None:
    """Neither claims nor rescues, and no append of the key itself; its tasks come when it is
    done."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        await create(store, "held", "lost")
        claims = {one.task.concurrency_key: one for one in await claim_some(store, 2, 0.01)}
        for claim in claims.values():
            await outlast_lease(store, claim)
        await create(store, "held", "free")
        async with session(url) as conn:
            async with conn.transaction():
                await conn.execute(
                    "UPDATE limits SET held = held WHERE op = 'x' AND concurrency_key = 'held'"
                )
                await store.append(claims["held"].attempt, [log()])
                beside = await claim_some(store, 5)
                rescued = await store.leases.rescue_expired()
            after = await store.leases.rescue_expired()
        free = {claim.task.concurrency_key for claim in beside}
        assert [one.task.concurrency_key for one in rescued] == ["lost"]
        assert [one.task.concurrency_key for one in after] == ["held"]
        assert free == {"free"}


async def create(store: TaskStore, *keys: str, op: str = "x") -> None:
    """Tasks with these concurrency keys, in this order."""
    for key in keys:
        await store.create(NewTask(new_task_id(), op, concurrency_key=key))


async def claim_some(store: TaskStore, limit: int, lease: float = 60) -> list[Claim]:
    """Claim for a worker of both ops."""
    return list(await store.claim_due("me", ["x", "y"], limit, lease))
