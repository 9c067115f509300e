"""Heartbeats on PostgreSQL beside rows that another session holds locked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import pytest

from tapescope import Reporter, TaskManager
from tapescope.model.leases import Leases
from tapescope.model.tasks import Attempt, Claim
from tapescope.store.core import StoreCore
from tapescope.store.leases import StoreLeases
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import schema_of, session, start_task

LEASE = 60.0
Extend: TypeAlias = Callable[[Sequence[Claim]], Awaitable[Leases]]


@asynccontextmanager
async def holding(url: str, *task_ids: str) -> AsyncGenerator[None]:
    """Another session's transaction, left open, that has locked the rows of these tasks."""
    async with session(url) as other, other.transaction():
        await other.fetch("SELECT 1 FROM tasks WHERE task_id = ANY ($1) FOR UPDATE", task_ids)
        yield


@pytest.fixture(params=["keeper", "store", "pool"])
async def extending(
    request: pytest.FixtureRequest, postgres_url: str
) -> AsyncGenerator[tuple[PostgresStore, Extend]]:
    """A store and each of the ways in which a heartbeat reaches it."""
    dsn = postgres_url.partition("&schema=")[0]
    settings = {"lock_timeout": "60s"}  # its sessions wait for long, and are left as they are
    async with asyncpg.create_pool(dsn, min_size=0, max_size=5, server_settings=settings) as pool:
        way = {"pool": pool, "schema": schema_of(postgres_url)}
        own: dict[str, Any] = {"url": postgres_url} if request.param != "pool" else way
        async with PostgresStore(**own) as store:
            keeper = store.leases.make_renewer() if request.param == "keeper" else None

            async def extend(claims: Sequence[Claim]) -> Leases:
                attempts = [claim.attempt for claim in claims]
                if keeper is None:
                    return await store.leases.extend("me", LEASE, attempts)
                ids = [attempt.task_id for attempt in attempts]
                held = await keeper.extend_leases("me", round(LEASE * 1e6), ids)
                return Leases.sort(held, attempts)

            yield store, extend
            if keeper is not None:
                await keeper.aclose()


async def lease_of(store: PostgresStore, claim: Claim) -> int:
    """When its lease is over."""
    return (await store.get(claim.task.task_id)).lease_expires_us or 0


async def test_a_held_row_keeps_no_other_from_its_lease(
    extending: tuple[PostgresStore, Extend], postgres_url: str
) -> None:
    """The others are extended; the held ones are still their owner's, with their old leases."""
    store, extend = extending
    claims = [await start_task(store) for _ in range(6)]
    before = [await lease_of(store, claim) for claim in claims]
    async with holding(postgres_url, *(claim.task.task_id for claim in claims[:3])):
        leases = await extend(claims)
        after = [await lease_of(store, claim) for claim in claims]
    again = await extend(claims)

    assert leases.busy == tuple(claim.attempt for claim in claims[:3])
    assert (leases.extended, leases.lost) == (3, ())
    assert [new > old for new, old in zip(after, before, strict=True)] == [False] * 3 + [True] * 3
    assert (again.extended, again.busy, again.lost) == (6, (), ())


async def test_a_row_that_is_let_go_in_time_is_waited_for(
    extending: tuple[PostgresStore, Extend], postgres_url: str
) -> None:
    """A flush holds a row for a moment: the heartbeat comes after it."""
    store, extend = extending
    claims = [await start_task(store) for _ in range(3)]
    async with session(postgres_url) as raw:
        async with holding(postgres_url, *(claim.task.task_id for claim in claims[:2])):
            asking = asyncio.ensure_future(extend(claims))
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"

            async def is_waited_for() -> bool:
                return asking.done() or await raw.fetchval(waits) is not None

            await until(is_waited_for)
        leases = await asking

    assert (leases.extended, leases.busy, leases.lost) == (3, (), ())


async def test_a_held_row_of_another_is_lost(
    extending: tuple[PostgresStore, Extend], postgres_url: str
) -> None:
    """What is another's by now is not said to be its owner's because a session holds it."""
    store, extend = extending
    claim, other = await start_task(store), await start_task(store, "you")
    async with holding(postgres_url, other.task.task_id):
        leases = await extend([claim, other])

    assert (leases.extended, leases.busy, leases.lost) == (1, (), (other.attempt,))


async def test_a_run_whose_row_is_held_goes_on(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lease is not lost for that, the others are extended, and it is said in the log."""
    heard = asyncio.Event()

    class HeardLeases(StoreLeases):
        def make_renewer(self) -> None:
            return None

        async def extend(
            self, owner: str, lease: float, attempts: Sequence[Attempt] | None = None
        ) -> Leases:
            leases = await super().extend(owner, lease, attempts)
            if leases.busy:
                heard.set()
            return leases

    class Listening(PostgresStore):
        def _make_leases(self, core: StoreCore) -> StoreLeases:
            return HeardLeases(core)

    go_on = asyncio.Event()

    async def work(report: Reporter) -> str:
        await report.log("info", "here")
        await go_on.wait()
        return "done"

    async with (
        Listening(postgres_url) as store,
        TaskManager(store, lease=30, heartbeat=0.05) as manager,
    ):
        tasks = [await manager.submit("work", work) for _ in range(3)]
        for task in tasks:
            await anext(task.follow(after_seq=1))
        async with holding(postgres_url, tasks[0].task_id):
            async with asyncio.timeout(30):
                await heard.wait()
        go_on.set()
        results = [await task.result() for task in tasks]

    assert results == ["done"] * 3
    assert "another session holds" in caplog.text
