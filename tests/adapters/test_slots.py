"""Slots in the databases: the turns of keys, and sessions that hold one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Claim, FinalEvent, Task, TaskStatus
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
        full = [f"k{n}" for n in range(260)]
        await asyncio.gather(*(create(store, key) for key in full))
        held = 0
        while held < len(full):
            held += len(await claim_some(store, 100))
        await asyncio.gather(*(create(store, key) for key in full))
        await create(store, "free", op="y")
        (claim,) = await claim_some(store, 5)

    assert claim.task.op == "y"


async def test_an_op_may_change_its_slots_twice(store_url: str) -> None:
    """Before any claim has looked at a key that is in use: the later number counts."""
    async with find_store(store_url) as store:
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        await create(store, *"kkkk")
        first = await claim_some(store, 5)
        for slots in (4, 3):
            await store.ops.register([KnownOp("x", max_concurrent=slots)])
        more = await claim_some(store, 5)

    assert (len(first), len(more)) == (1, 2)


async def test_a_session_that_holds_a_key_keeps_no_other_waiting(
    postgres_server: Postgres,
) -> None:
    """Neither claims nor rescues, and no append of the key itself; nor one that holds a parked
    task. What they hold has its turn when they are done."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await store.ops.register([KnownOp("x", max_concurrent=2)])
        await create(store, "held", "lost")
        claims = {one.task.concurrency_key: one for one in await claim_some(store, 2, 0.01)}
        for claim in claims.values():
            await outlast_lease(store, claim)
        waiting = await create(store, "held", "free", "free")
        async with session(url) as conn:
            async with conn.transaction():
                await conn.execute(
                    "UPDATE limits SET held = held WHERE op = 'x' AND concurrency_key = 'held'"
                )
                await conn.execute("SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", waiting[1].key)
                await store.append(claims["held"].attempt, [log()])
                beside = await claim_some(store, 5)
                rescued = await store.leases.rescue_expired()
            after = await store.leases.rescue_expired()
        late: set[int] = set()
        while len(late) < 2:
            late |= {one.task.key for one in await claim_some(store, 5)}

    assert [one.task.key for one in beside] == [waiting[2].key]
    assert [one.task.concurrency_key for one in rescued] == ["lost"]
    assert [one.task.concurrency_key for one in after] == ["held"]
    assert late == {waiting[0].key, waiting[1].key}


async def test_an_end_locks_its_key_before_its_task(postgres_server: Postgres) -> None:
    """In one order, so that two sessions that free slots never wait for each other."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        await create(store, "k")
        (claim,) = await claim_some(store, 1)
        async with session(url) as conn, conn.transaction():
            await conn.execute("UPDATE limits SET held = held")
            ending = asyncio.ensure_future(
                store.finish_if_running(claim.attempt, FinalEvent.succeeded())
            )
            while not await conn.fetch(
                "SELECT 1 FROM pg_locks l WHERE NOT l.granted"
                " AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid))"
            ):
                pass  # it waits for the key
            await conn.execute("SELECT 1 FROM tasks FOR UPDATE NOWAIT")
        await ending
        task = await store.get(claim.task.task_id)

    assert task.status is TaskStatus.SUCCEEDED


async def test_a_look_that_another_session_takes_is_passed_over(
    postgres_server: Postgres,
) -> None:
    """It stops no claim of the others, and is there again when that session gave it up."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await store.ops.register([KnownOp("x", max_concurrent=1)])
        await create(store, "a", "z")
        async with session(url) as conn:
            taking = conn.transaction()
            await taking.start()
            await conn.execute("DELETE FROM limit_looks WHERE concurrency_key = 'a'")
            beside = await claim_some(store, 1)
            await taking.rollback()
        after = await claim_some(store, 1)

    assert [one.task.concurrency_key for one in beside] == ["z"]
    assert [one.task.concurrency_key for one in after] == ["a"]


async def create(store: TaskStore, *keys: str, op: str = "x") -> list[Task]:
    """Tasks with these concurrency keys, in this order."""
    new = [NewTask(new_task_id(), op, concurrency_key=key) for key in keys]
    return [(await store.create(one))[0] for one in new]


async def claim_some(store: TaskStore, limit: int, lease: float = 60) -> list[Claim]:
    """Claim for a worker of both ops."""
    return list(await store.claim_due("me", ["x", "y"], limit, lease))
