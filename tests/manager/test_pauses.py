"""Paused ops and draining workers, as managers meet them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from tapescope import ManagerClosed, Reporter, ResultTimeout, TaskManager, TaskStatus, find_store
from tapescope.manager.backlog_reader import describe_backlog
from tapescope.testing import MemoryStore, until
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import working


async def work(report: Reporter) -> str:
    """A runner that is over at once."""
    return "done"


async def test_no_worker_of_the_fleet_begins_a_task_after_a_pause(store_url: str) -> None:
    """Three workers take tasks as fast as they can: none is claimed after the pause's answer, and
    a resume has them go on, at once, until all are done."""
    async with AsyncExitStack() as fleet:
        store = await fleet.enter_async_context(find_store(store_url))
        workers: list[TaskManager] = []
        for _ in range(3):
            worker = TaskManager(store_url, max_running=2, poll=0.05)
            worker.op("work")(work)
            workers.append(await fleet.enter_async_context(worker))
        handles = [await workers[0].submit("work") for _ in range(40)]
        await handles[0].result(20)
        await store.ops.pause("work", reason="why", by="ann")
        answered = store.due_clock.now()
        handles += [await workers[0].submit("work") for _ in range(10)]

        async def is_still() -> bool:
            return (await store.count(op="work"))[TaskStatus.RUNNING] == 0

        await until(is_still)
        for _ in range(6):  # looks of each worker
            for worker in workers:
                assert await worker.store.claim_due(worker.owner, ["work"], 2, 30) == []
        claimed = [task.claimed_us for task in (await store.list(op="work")).tasks]
        left = (await store.count(op="work"))[TaskStatus.PENDING]
        await workers[2].resume("work")
        for handle in handles:
            await handle.result(20)

    assert left >= 10
    assert max(filter(None, claimed)) <= answered


async def test_a_callable_of_ones_own_runs_on_a_paused_op(any_url: str) -> None:
    """Who submitted it runs it: no worker could. A task by name waits."""
    async with working(any_url, poll=0.01) as bench:
        pause = await bench.manager.pause("local", reason="why")
        bench.manager.op("named")(work)
        await bench.manager.pause("named", reason="the relay is down")
        result = await (await bench.manager.submit("local", work)).result(10)
        waiting = await bench.manager.submit("named")
        with pytest.raises(ResultTimeout, match=r"its op 'named' is paused, by .*: the relay is"):
            await waiting.result(0.05)
        listed = await bench.manager.list_paused()
        await bench.manager.resume("named")

        assert (result, await waiting.result(10)) == ("done", "done")
        assert (pause.by, pause.reason) == (bench.manager.owner, "why")
        assert [one.op for one in listed.pauses] == ["local", "named"]


@in_virtual_time
async def test_a_resume_wakes_the_workers_of_its_process() -> None:
    """They wait for no poll, which is an hour away."""
    async with MemoryStore() as store, TaskManager(store, poll=3_600) as manager:
        manager.op("work")(work)
        await manager.pause("work")
        handle = await manager.submit("work")
        await asyncio.sleep(10)  # its looks are over
        await manager.resume("work")

        assert await handle.result(10) == "done"


async def test_a_closed_manager_pauses_nothing() -> None:
    """As it submits nothing."""
    async with MemoryStore() as store:
        manager = TaskManager(store)
        with pytest.raises(ManagerClosed):
            await manager.pause("work")
        with pytest.raises(ManagerClosed):
            await manager.resume("work")
        with pytest.raises(ManagerClosed):
            await manager.list_paused()

        assert (await store.ops.list_paused()).pauses == ()


async def test_a_drained_worker_runs_on_and_claims_nothing(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It learns so within its poll, says so in its log and its readiness, which stays ready; the
    task that it runs ends well, and it claims again when it is let."""
    caplog.set_level(logging.WARNING, "tapescope")
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def long(report: Reporter) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with working(any_url, poll=0.01) as bench:
        manager, store = bench.manager, bench.store
        manager.op("long")(long)
        manager.op("short")(work)
        running = await manager.submit("long")
        await begun.wait()
        await store.ops.drain(manager.owner, reason="it leaks\n[+] worker: ok", by="ann")
        waiting = await manager.submit("short")
        await until(lambda: len(manager.check_health()) == 7)
        checks = {one.name: one for one in manager.check_health()}
        go_on.set()
        ended = await running.result(10)
        with pytest.raises(ResultTimeout):
            await waiting.result(0.05)
        (state,) = (await store.ops.list_workers()).workers
        await store.ops.undrain(manager.owner)
        later = await waiting.result(10)
        await until(lambda: len(manager.check_health()) == 6)

        assert (ended, later) == ("done", "done")
        assert all(one.ok for one in checks.values())
        assert checks["worker"].detail.endswith(r"no tasks, by ann: it leaks\n[+] worker: ok")
        assert state.drain is not None
        assert (state.owner, state.ops) == (manager.owner, ("long", "short"))
        assert state.host
        assert state.pid
        assert "drains: it claims no more tasks, and those that it runs go on, by ann" in (
            caplog.text
        )
        assert "drains no more" in caplog.text


async def test_a_drain_ends_with_the_manager(store_url: str) -> None:
    """It is of one life: the manager that is opened again has another owner, and claims."""
    async with find_store(store_url) as store:
        manager = TaskManager(store, poll=0.01)
        manager.op("work")(work)
        async with manager:
            await until(lambda: _is_known(manager))
            await store.ops.drain(manager.owner)
        async with manager:
            result = await (await manager.submit("work")).result(10)

        assert result == "done"
        assert (await store.ops.list_workers()).workers == ()


async def _is_known(manager: TaskManager) -> bool:
    return bool((await manager.store.ops.list_workers()).workers)


async def test_the_line_of_the_backlog_names_what_is_paused() -> None:
    """In ``/readyz?verbose``; an op that is paused is not one without a worker."""
    async with MemoryStore() as store, TaskManager(store, work=False) as manager:
        for op in ("alone", "mail"):
            await manager.submit(op)
        for op in ("a", "b", "c", "mail"):
            await manager.pause(op)
        line = describe_backlog(await store.backlog.read())

    assert line == "2 wait, 2 of them due; no worker for alone; paused: a, b, c and 1 more"
