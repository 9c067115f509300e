"""Runs of ops by name: the same ends, tapes and errors, whether Temporal brings them or the claim
loop takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tapescope import Reporter, TaskCancelled, TaskFailed, TaskManager
from tapescope.testing import until
from tests.temporal.looks import list_types, until_running

pytestmark = pytest.mark.temporal


@pytest.fixture(params=["embedded", "temporal"])
def engine(request: pytest.FixtureRequest) -> str | None:
    """What brings the tasks; ``None``: the claim loop."""
    if request.param == "embedded":
        return None
    url: str = request.getfixturevalue("engine_url")
    return url


@pytest_asyncio.fixture
async def manager(postgres_url: str, engine: str | None) -> AsyncGenerator[TaskManager]:
    """One that works, and whose runs fail as their params say."""
    manager = TaskManager(
        postgres_url,
        engine=engine,
        lease=3.0,
        heartbeat=0.5,
        retry_delay=0.05,
        cancel_grace=0.5,
        drain=0.2,
        audit_every=None,
    )
    failed: dict[str, int] = {}

    @manager.op("flaky", retries=2)
    async def flaky(report: Reporter, name: str, times: int) -> int:
        failed[name] = failed.get(name, 0) + 1
        if failed[name] <= times:
            raise RuntimeError("not yet")
        return failed[name]

    @manager.op("waits")
    async def waits(report: Reporter, heeds: bool) -> str:
        await report.progress("begun", 1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if heeds:
                raise
        await asyncio.Event().wait()  # until the loop ends, and it with it
        return "never"

    @manager.op("slow", timeout=0.3, retries=0)
    async def slow(report: Reporter) -> None:
        await asyncio.Event().wait()

    async with manager:
        yield manager


async def test_it_succeeds_after_two_retries(manager: TaskManager) -> None:
    """Each attempt that failed is on the tape, and two retries are spent."""
    handle = await manager.submit("flaky", params={"name": "a", "times": 2})
    result = await handle.result(timeout=30)
    task = await handle.status()

    assert (result, task.attempt, task.retries_spent) == (3, 3, 2)
    assert await list_types(manager, handle.task_id) == [
        *("task_started", "attempt_failed") * 2,
        *("task_started", "final"),
    ]


async def test_it_fails_when_no_retry_is_left(manager: TaskManager) -> None:
    """With the code of what was raised last."""
    handle = await manager.submit("flaky", params={"name": "b", "times": 9})
    with pytest.raises(TaskFailed, match="not yet"):
        await handle.result(timeout=30)

    assert (await handle.status()).error_code == "RuntimeError"


async def test_its_timeout_ends_it(manager: TaskManager) -> None:
    """In process, with a code of its own."""
    handle = await manager.submit("slow")
    with pytest.raises(TaskFailed):
        await handle.result(timeout=30)

    assert (await handle.status()).error_code == "timeout"


async def test_it_waits_for_its_time(manager: TaskManager) -> None:
    """And not for a claim before."""
    handle = await manager.submit("flaky", params={"name": "c", "times": 0}, delay=1.0)
    await handle.result(timeout=30)
    task = await handle.status()

    assert task.claimed_us is not None
    assert task.claimed_us >= task.run_us
    assert task.attempt == 1


@pytest.mark.parametrize("heeds", [True, False], ids=["heeded", "swallowed"])
async def test_a_run_is_cancelled(manager: TaskManager, heeds: bool) -> None:
    """One that swallows its cancel ends after the grace, without its runner."""
    handle = await manager.submit("waits", params={"heeds": heeds})
    await until_running(manager, handle.task_id)
    await handle.cancel("enough")
    with pytest.raises(TaskCancelled, match="enough"):
        await handle.result(timeout=30)

    assert (await list_types(manager, handle.task_id))[-1] == "final"
    assert (await manager.tape(handle.task_id)).events[-1].attempt == 1


async def test_what_waits_is_cancelled_at_once(manager: TaskManager) -> None:
    """Its time never comes, and no attempt of it is made."""
    handle = await manager.submit("flaky", params={"name": "d", "times": 0}, delay=3_600)
    await handle.cancel("not wanted")

    assert await list_types(manager, handle.task_id) == ["final"]
    assert (await handle.status()).attempt == 0


async def test_a_paused_op_waits_and_a_resumed_one_runs(manager: TaskManager) -> None:
    """What is paused is not claimed, whatever asks for it."""
    await manager.pause("flaky", reason="an incident")
    handle = await manager.submit("flaky", params={"name": "e", "times": 0})
    others = await manager.submit("slow")
    with pytest.raises(TaskFailed):
        await others.result(timeout=30)
    assert (await handle.status()).attempt == 0
    await manager.resume("flaky")

    assert await handle.result(timeout=30) == 1


async def test_an_idempotency_key_leads_to_the_one_task(manager: TaskManager) -> None:
    """Submitted ten times at once, it runs once."""
    handles = await asyncio.gather(
        *(
            manager.submit("flaky", params={"name": "f", "times": 0}, idempotency_key="f")
            for _ in range(10)
        )
    )
    results = {await handle.result(timeout=30) for handle in handles}

    assert results == {1}
    assert len({handle.task_id for handle in handles}) == 1


async def test_the_close_releases_what_runs(postgres_url: str, engine: str | None) -> None:
    """No retry is spent: another worker goes on with it."""
    first = TaskManager(postgres_url, engine=engine, drain=0.1, cancel_grace=0.5, audit_every=None)
    began = asyncio.Event()
    ends = asyncio.Event()

    async def waits(report: Reporter) -> str:
        await report.progress("begun", 1)
        began.set()
        await ends.wait()
        return "done"

    first.op("waits")(waits)
    async with first:
        handle = await first.submit("waits")
        await asyncio.wait_for(began.wait(), 30)
        task_id = handle.task_id
    second = TaskManager(postgres_url, engine=engine, drain=0.1, audit_every=None)
    second.op("waits")(waits)
    ends.set()
    async with second:
        assert await second.handle(task_id).result(timeout=40) == "done"
        task = await second.store.get(task_id)

        assert (task.attempt, task.retries_spent) == (2, 0)
        assert await list_types(second, task_id) == [
            *("task_started", "attempt_released"),
            *("task_started", "final"),
        ]


async def test_a_callable_of_its_own_stays_here(manager: TaskManager) -> None:
    """No engine can bring it to another process."""

    async def own(report: Reporter) -> str:
        return "here"

    handle = await manager.submit("own", own)

    assert await handle.result(timeout=10) == "here"
    assert (await handle.status()).engine is None


async def test_what_is_in_a_callers_transaction_runs_after_its_commit(
    manager: TaskManager, postgres_url: str
) -> None:
    """Not before; a rolled back one never."""
    import psycopg

    dsn = postgres_url.partition("&schema=")[0]
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        async with conn.transaction(force_rollback=True):
            lost = await manager.submit("flaky", params={"name": "g", "times": 0}, connection=conn)
        async with conn.transaction():
            kept = await manager.submit("flaky", params={"name": "h", "times": 0}, connection=conn)
        await manager.announce()

    assert await kept.result(timeout=30) == 1
    assert [task.task_id for task in (await manager.store.list()).tasks] == [kept.task_id]
    assert lost.task_id != kept.task_id
    await until(lambda: not manager.store.waiting)
