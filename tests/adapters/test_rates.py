"""Rates in the databases: the rows of a window, the clocks that they go by, and other sessions."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tapescope import NewTask, TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Claim, FinalEvent, Task
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.support.breaches import run_round, run_statement
from tests.support.holding import held
from tests.support.postgres_sessions import session

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session
    from tests.support.services import Postgres

HOUR: Final = 3_600_000_000
PARKED: Final = 253402300799999999
"""After all times."""
WINDOW: Final = 200_000
"""Microseconds of a window that a test outlasts."""


async def test_a_key_has_no_more_rows_than_its_window(store_url: str) -> None:
    """What is out of it goes with the next look, which a claim writes; and a claim of many tasks
    writes one."""
    async with find_store(store_url) as store:
        await register(store, 3, WINDOW)
        await create(store, 5)
        first = await claim_some(store, 5)
        begun = await read(store_url, "SELECT begun_at FROM limit_starts")
        looks = await read(store_url, f"SELECT due_at FROM limit_looks WHERE due_at > {HOUR}")
        later = await outlast(store)
        for one in [*first, *later]:
            await store.finish_if_running(one.attempt, FinalEvent.succeeded())
        due = later[-1].task.claimed_us
        assert due is not None
        await until(lambda: store.clock.now() > due + WINDOW)
        none = await claim_some(store, 5)
        left = await read(store_url, "SELECT begun_at FROM limit_starts")

        assert begun == [first[0].task.claimed_us] * 3
        assert looks == [begun[0] + WINDOW]
        assert (len(later), none, left) == (2, [], [])
        assert await store.next_due(["x"]) is None


async def test_a_rate_that_is_gone_leaves_nothing(store_url: str) -> None:
    """Neither rows of what began, nor of what may begin."""
    async with find_store(store_url) as store:
        await register(store, 2, HOUR)
        await create(store, 2)
        await claim_some(store, 1)
        before = await read(store_url, "SELECT begun_at FROM limit_starts")
        await store.ops.register([KnownOp("x")])

        assert len(before) == 1
        assert await read(store_url, "SELECT begun_at FROM limit_starts") == []


async def test_a_row_that_a_rate_left_goes_with_the_next_look(postgres_url: str) -> None:
    """One that a claim wrote while the rate was taken away."""
    async with find_store(postgres_url) as store:
        await store.ops.register([KnownOp("x")])
        await create(store, 1)
        await run_statement(postgres_url, "INSERT INTO limit_starts VALUES ('x', 'k', 1, 1)")
        await claim_some(store, 1)

        assert await read(postgres_url, "SELECT begun_at FROM limit_starts") == []


async def test_a_deleted_task_gives_its_place_back(store_url: str) -> None:
    """Where no claim has begun it; an attempt that has begun counts on."""
    async with find_store(store_url) as store:
        await register(store, 1, HOUR)
        first, second, third = await create(store, 3)
        await make_due(store_url, first)
        given = await read(store_url, "SELECT task FROM limit_starts")
        await run_statement(store_url, f"DELETE FROM tasks WHERE id = {first.key}")
        (claim,) = await claim_some(store, 5)
        await run_statement(store_url, f"DELETE FROM tasks WHERE id = {second.key}")
        none = await claim_some(store, 5)

        assert given == [first.key]
        assert (claim.task.key, none) == (second.key, [])
        assert (await store.get(third.task_id)).parked


async def test_what_a_session_makes_due_is_counted(store_url: str) -> None:
    """Also above the rate, and where it is parked again it is not."""
    async with find_store(store_url) as store:
        await register(store, 1, HOUR)
        first, second, _ = await create(store, 3)
        await make_due(store_url, first)
        await make_due(store_url, second)
        both = await read(store_url, "SELECT task FROM limit_starts ORDER BY task")
        await run_statement(
            store_url,
            f"UPDATE tasks SET parked_at = run_at, run_at = {PARKED} WHERE id = {second.key}",
        )
        one = await read(store_url, "SELECT task FROM limit_starts")
        by_id = await store.claim_if_pending(await store.get(first.task_id), "me", 60)
        claims = await claim_some(store, 5)

        assert both == [first.key, second.key]
        assert one == [first.key]
        assert by_id is None
        assert [claim.task.key for claim in claims] == [first.key]


async def test_a_clock_that_is_set_back_holds_nobody_for_long(store_url: str) -> None:
    """What began in the time to come counts for one window from the next look on."""
    async with find_store(store_url) as store:
        await register(store, 1, WINDOW)
        await create(store, 1)
        await claim_some(store, 1)
        await run_statement(store_url, f"UPDATE limit_starts SET begun_at = begun_at + {HOUR}")
        before = store.clock.now()
        await create(store, 1)
        none = await claim_some(store, 1)
        (begun,) = await read(store_url, "SELECT begun_at FROM limit_starts")
        (after,) = await outlast(store)
        at = after.task.claimed_us
        assert at is not None

        assert none == []
        assert before <= begun <= at - WINDOW


async def test_a_claim_begins_when_it_has_the_lock(made_sqlite_url: str) -> None:
    """Who had the file before it may have begun tasks, and those began before."""
    async with find_store(made_sqlite_url) as store:
        await create(store, 1, key=None)
        with held(made_sqlite_url):
            claiming = asyncio.ensure_future(claim_some(store, 1))
            since = store.clock.now()
            await until(lambda: store.clock.now() > since + WINDOW)
            free = store.clock.now()
        (claim,) = await claiming
        at = claim.task.claimed_us
        assert at is not None

    assert at >= free


@pytest.mark.parametrize("sound", [True, False])
async def test_a_claim_begins_after_its_locks(postgres_server: Postgres, sound: bool) -> None:
    """What another session made due by its rate while this claim waited did not begin before."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await register(store, 1, HOUR)
        await create(store, 1)
        if not sound:  # so that each task is claimed for itself
            await create(store, 1, key=None)
            await run_round(
                url, "UPDATE tasks SET attempt = 2147483647 WHERE concurrency_key IS NULL"
            )
        async with session(url) as conn:
            other = conn.transaction()
            await other.start()
            await conn.execute("INSERT INTO limits VALUES ('x', 'k', 0)")
            claiming = asyncio.ensure_future(claim_some(store, 5))
            await until_waiting(conn)
            free = await conn.fetchval("SELECT now_us()")
            await other.rollback()
        claims = await claiming

    assert [one.task.concurrency_key for one in claims] == ["k"]
    assert min(one.task.claimed_us or 0 for one in claims) >= free


async def test_a_claim_that_is_not_committed_is_looked_at_later(postgres_server: Postgres) -> None:
    """Who sees a place that is given, and nobody that has begun, writes no look: the claim does."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await register(store, 1, HOUR)
        first, _ = await create(store, 2)
        await make_due(url, first)
        async with session(url) as conn:
            async with conn.transaction():
                at = await conn.fetchval("SELECT now_us()")
                await conn.execute(
                    "UPDATE tasks SET status = 'running', attempt = 1, owner = 'o',"
                    f" claimed_at = {at}, lease_expires_at = {at + HOUR} WHERE id = {first.key}"
                )
                none = await claim_some(store, 5)
                before = await read(url, f"SELECT due_at FROM limit_looks WHERE due_at > {at}")
            after = await store.next_due(["x"])

    assert (none, before) == ([], [])
    assert after == at + HOUR


async def test_a_row_that_another_session_holds_is_passed_over(postgres_server: Postgres) -> None:
    """Neither one that is out of its window, nor one of the time to come stops a claim; nor do
    they stop who takes the rate away."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await register(store, 2, WINDOW)
        await create(store, 1)
        rows = f"('x', 'k', 1, 8), ('x', 'k', {PARKED - 1}, 9)"
        await run_statement(url, f"INSERT INTO limit_starts VALUES {rows}")
        async with session(url) as conn, conn.transaction():
            await conn.execute("SELECT 1 FROM limit_starts FOR UPDATE")
            claims = await claim_some(store, 1)
            await store.ops.register([KnownOp("x")])

    assert len(claims) == 1


async def test_a_start_of_meanwhile_is_made_no_earlier(postgres_server: Postgres) -> None:
    """What began while a claim waited began after the time by which that claim looks."""
    url = postgres_server.url()
    async with find_store(url) as store, asyncio.timeout(30):
        await register(store, 1, HOUR)
        await create(store, 1)
        async with session(url) as conn:
            other = conn.transaction()
            await other.start()
            await conn.execute("INSERT INTO limits VALUES ('x', 'k', 0)")
            claiming = asyncio.ensure_future(claim_some(store, 5))
            await until_waiting(conn)
            await run_statement(url, "INSERT INTO limit_starts VALUES ('x', 'k', now_us(), 9)")
            (begun,) = await read(url, "SELECT begun_at FROM limit_starts")
            await other.rollback()
        none = await claiming
        (kept,) = await read(url, "SELECT begun_at FROM limit_starts")

    assert none == []
    assert kept >= begun


async def test_each_transaction_writes_a_look_of_its_own(postgres_server: Postgres) -> None:
    """For one of another's may be taken just now, by a claim that does not see what began here."""
    url = postgres_server.url()
    async with find_store(url) as store:
        await register(store, 1, HOUR)
        (task,) = await create(store, 1)
        await make_due(url, task)
        await run_statement(url, f"INSERT INTO limit_looks VALUES ('x', {2 * HOUR}, 'k')")
        await run_statement(
            url,
            "UPDATE tasks SET status = 'running', attempt = 1, owner = 'o',"
            f" claimed_at = {HOUR}, lease_expires_at = {HOUR} WHERE id = {task.key}",
        )
        looks = await read(url, f"SELECT due_at FROM limit_looks WHERE due_at = {2 * HOUR}")

    assert looks == [2 * HOUR] * 2


async def test_a_rate_that_cannot_be_read_is_not_told(store_url: str) -> None:
    """Half of one, or none that is a number of times, was written past tapescope."""
    async with find_store(store_url) as store:
        await register(store, 1, HOUR)
        told: list[bool] = []
        for change in ("rate_per_us = 1", "rate_per_us = NULL", "rate_times = 0, rate_per_us = 1"):
            await run_statement(store_url, f"UPDATE ops SET {change}")
            told.append("x" in await store.ops.read())

    assert told == [True, False, False]


async def register(store: TaskStore, times: int, per_us: int) -> None:
    """The op, with this rate."""
    await store.ops.register([KnownOp("x", rate_times=times, rate_per_us=per_us)])


async def create(store: TaskStore, n: int, key: str | None = "k") -> list[Task]:
    """Tasks with one concurrency key."""
    new = [NewTask(new_task_id(), "x", concurrency_key=key) for _ in range(n)]
    return [(await store.create(one))[0] for one in new]


async def until_waiting(conn: Session) -> None:
    """Until a session waits for this one: a claim for the first row of a key."""
    while not await conn.fetch(
        "SELECT 1 FROM pg_locks l WHERE NOT l.granted"
        " AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid))"
    ):
        pass


async def make_due(url: str, task: Task) -> None:
    """What a claim does with a parked task that may begin, before it begins it."""
    await run_statement(
        url, f"UPDATE tasks SET run_at = parked_at, parked_at = NULL WHERE id = {task.key}"
    )


async def claim_some(store: TaskStore, limit: int) -> list[Claim]:
    """Claim for a worker of the op."""
    return list(await store.claim_due("me", ["x"], limit, 60))


async def outlast(store: TaskStore) -> list[Claim]:
    """What the next claim takes that takes anything."""
    claims: list[Claim] = []

    async def take() -> bool:
        claims.extend(await claim_some(store, 5))
        return bool(claims)

    await until(take)
    return claims


async def read(url: str, query: str) -> list[int]:
    """The first column of what a query finds."""
    if url.startswith("postgresql"):
        async with session(url) as conn:
            return [row[0] for row in await conn.fetch(query)]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
        return [one for (one,) in conn.execute(query)]
