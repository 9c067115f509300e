"""Registered ops: registration, submits by name, and the settings that a task takes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tapescope import (
    BadOp,
    BadRunner,
    BadSetting,
    ManagerClosed,
    ManagerOpen,
    OpNotRegistered,
    OpTaken,
    Reporter,
    Submission,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskNotEnded,
    ThreadReporter,
)
from tapescope.testing import MemoryStore, until
from tests.support.workbench import ended, started, wait_for_cancel, working


async def double(report: Reporter, n: int) -> int:
    """Report and return twice the number."""
    await report.log("info", "here")
    return 2 * n


async def test_a_task_is_submitted_by_name(any_url: str) -> None:
    """A registered op runs without a callable at hand; its tape, row, span and metric agree."""
    async with working(any_url) as bench:
        bench.manager.op("double")(double)
        task = await bench.manager.submit("double", params={"n": 21})
        result = await task.result()
        await until(lambda: bench.run_spans(task.task_id))  # a final is told before its span ends
        account = await bench.account(task)

        assert result == 42
        assert account == ended("succeeded", tape=["task_started", "log", "final"])
        assert bench.manager.ops == ("double",)


async def test_an_op_is_registered_before_the_manager_is_open(any_url: str) -> None:
    """Ops of a module that makes its manager are there before ``open``; the function stays one."""
    async with MemoryStore() as store:
        manager = TaskManager(store)

        @manager.op("triple")
        def triple(report: ThreadReporter, n: int) -> int:
            return 3 * n

        async with manager:
            task = await manager.submit("triple", params={"n": 2})
            result = await task.result()
        itself: Any = None

        assert result == 6
        assert triple(itself, 3) == 9


async def test_many_are_submitted_by_name(any_url: str) -> None:
    """``submit_many`` takes names as well as callables, and each task runs once."""
    async with working(any_url) as bench:
        bench.manager.op("double")(double)
        tasks = await bench.manager.submit_many(
            [Submission("double", params={"n": n}) for n in range(50)]
            + [Submission("other", double, params={"n": n}) for n in range(50)]
        )
        results = [await task.result() for task in tasks]
        attempts = {(await task.status()).attempt for task in tasks}

        assert results == [2 * n for n in range(50)] * 2
        assert attempts == {1}


async def test_the_runner_of_an_op_is_its_only_one() -> None:
    """A second runner is refused, at a registration and at a submit; the same one is accepted."""
    async with working("memory:") as bench:
        bench.manager.op("double")(double)
        with pytest.raises(OpTaken, match="'double' is registered with"):
            bench.manager.op("double")(double)
        with pytest.raises(OpTaken, match="by its name alone"):
            await bench.manager.submit("double", wait_for_cancel)
        task = await bench.manager.submit("double", double, params={"n": 1})

        assert await task.result() == 2


def _generate(report: Reporter) -> Any:
    yield 1


@pytest.mark.parametrize("runner", [_generate, None, "double", int])
def test_what_cannot_run_is_not_registered(runner: Any) -> None:
    """A generator, a class and what cannot be called are refused, and the op stays free."""
    manager = TaskManager(MemoryStore())
    with pytest.raises(BadRunner):
        manager.op("double")(runner)

    assert manager.ops == ()


@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"timeout": -1.0}, {"retries": -1}, {"max_running": 0}]
)
def test_bad_settings_of_an_op_are_refused(settings: Any) -> None:
    """A setting that an op cannot have is refused by name, and so is a bad name."""
    manager = TaskManager(MemoryStore())
    with pytest.raises(BadSetting, match=next(iter(settings))):
        manager.op("double", **settings)
    with pytest.raises(BadOp):
        manager.op("No Op")

    assert manager.ops == ()


async def test_a_submit_takes_on_the_settings_of_its_op() -> None:
    """Timeout and retries are the op's; what a submit says goes first; unknown ops have three."""
    async with working("memory:") as bench:
        manager = bench.manager
        manager.op("double", timeout=60, retries=5)(double)
        plain = await (await manager.submit("double", params={"n": 1})).status()
        own = await (await manager.submit("double", params={"n": 1}, timeout=7, retries=0)).status()
        unknown = await manager.submit("nobody")
        unknown_row = await unknown.status()
        local = await (await manager.submit("local", double, params={"n": 1})).status()
        await unknown.cancel()

        assert (plain.timeout, plain.retries) == (60, 5)
        assert (own.timeout, own.retries) == (7, 0)
        assert (unknown_row.timeout, unknown_row.retries) == (None, 3)
        assert (local.timeout, local.retries) == (None, 0)


async def test_the_settings_of_an_op_are_known_elsewhere(store_url: str) -> None:
    """A manager without the op takes its timeout and retries from what a worker has registered."""
    async with working(store_url) as bench:
        bench.manager.op("double", timeout=60, retries=5)(double)
        await (await bench.manager.submit("double", params={"n": 1})).result()
        async with bench.make_other_store() as store, TaskManager(store) as other:
            task = await other.submit("double", params={"n": 4})
            row = await task.status()
            result = await task.result()

        assert (row.timeout, row.retries) == (60, 5)
        assert result == 8


async def test_a_manager_that_does_not_work_only_submits(any_url: str) -> None:
    """With ``work`` off the tasks of its own ops wait for a worker."""
    async with working(any_url, work=False) as bench:
        bench.manager.op("double")(double)
        task = await bench.manager.submit("double", double, params={"n": 4})
        with pytest.raises(TimeoutError):
            await task.result(timeout=0.05)
        status = (await task.status()).status.value
        async with TaskManager(bench.store) as worker:
            worker.op("double")(double)
            result = await task.result()

        assert status == "pending"
        assert result == 8


async def test_a_task_by_name_is_followed_and_cancelled(any_url: str) -> None:
    """A handle on a task by name follows it and cancels it, while it waits and while it runs."""
    async with working(any_url, max_running=1) as bench:
        bench.manager.op("wait")(wait_for_cancel)
        running = await bench.manager.submit("wait")
        await started(running)
        waiting = await bench.manager.submit("wait")
        await waiting.cancel("too many")
        await running.cancel("enough")
        for task, why in ((running, "enough"), (waiting, "too many")):
            with pytest.raises(TaskCancelled, match=why):
                await task.result()
        events = [event.type async for event in waiting.follow()]

        assert events == ["final"]


async def test_a_failed_attempt_of_an_op_is_made_again(any_url: str) -> None:
    """A registered runner that raises is tried again while a retry is left, then it fails."""
    seen: list[int] = []

    async def fail(report: Reporter) -> None:
        seen.append(report.attempt)
        raise ValueError("no")

    async with working(any_url, retry_delay=0.02) as bench:
        bench.manager.op("fail", retries=2)(fail)
        task = await bench.manager.submit("fail")
        with pytest.raises(TaskFailed, match="no"):
            await task.result()
        tape = [event.type for event in (await task.tape()).events]

        assert seen == [1, 2, 3]
        assert tape == ["task_started", "attempt_failed"] * 2 + ["task_started", "final"]


async def test_a_delayed_task_is_taken_when_it_is_due(any_url: str) -> None:
    """The worker sleeps until the next task falls due; no poll is needed."""
    async with working(any_url, poll=600.0) as bench:
        bench.manager.op("double")(double)
        task = await bench.manager.submit("double", params={"n": 1}, delay=0.2)
        result = await task.result(timeout=30)
        row = await task.status()

        assert result == 2
        assert row.claimed_at is not None
        assert row.claimed_at >= row.run_at


async def test_what_has_ended_is_submitted_again(any_url: str) -> None:
    """``resubmit`` makes a new task of the same op, params, timeout and retries."""
    async with working(any_url) as bench:
        bench.manager.op("double", timeout=60)(double)
        first = await bench.manager.submit("double", params={"n": 3}, retries=1)
        await first.result()
        again = await bench.manager.resubmit(first.task_id)
        result = await again.result()
        row = await again.status()

        assert result == 6
        assert again.task_id != first.task_id
        assert (row.timeout, row.retries) == (60, 1)


async def test_what_lives_is_not_submitted_again(any_url: str) -> None:
    """``resubmit`` refuses a task that has not ended, and one that no worker could run."""
    async with working(any_url) as bench:
        bench.manager.op("wait")(wait_for_cancel)
        task = await bench.manager.submit("wait")
        with pytest.raises(TaskNotEnded, match="has not ended"):
            await bench.manager.resubmit(task.task_id)
        await task.cancel()
        local = await bench.manager.submit("local", double, params={"n": 1})
        await local.result()
        with pytest.raises(OpNotRegistered, match="No worker"):
            await bench.manager.resubmit(local.task_id)
        with pytest.raises(TaskCancelled):
            await task.result()


async def test_settings_change_only_before_open() -> None:
    """``reconfigure`` changes what a module has set, until the manager is open."""
    async with MemoryStore() as store:
        manager = TaskManager(store, work=False)
        manager.op("double")(double)
        with pytest.raises(BadSetting, match="max_running"):
            manager.reconfigure(max_running=0)
        manager.reconfigure(max_running=1, drain=0.0, work=True)
        async with manager:
            task = await manager.submit("double", params={"n": 1})
            result = await task.result()
            with pytest.raises(ManagerOpen):
                manager.reconfigure(drain=1.0)
        with pytest.raises(ManagerClosed):
            await manager.submit("double")

        assert result == 2


async def test_a_wait_for_a_task_elsewhere_ends_with_the_store() -> None:
    """Waiting for a result that no worker here can give ends when the store is closed."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("nobody")
        waiting = asyncio.ensure_future(task.result())
        await asyncio.sleep(0)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await waiting


@pytest.mark.parametrize("name", ["shop.tasks.Resize", "_private", "a" * 128])
async def test_a_qualified_name_is_an_op(any_url: str, name: str) -> None:
    """It is submitted, claimed, listed and measured under its name, and case matters."""
    async with working(any_url) as bench:
        bench.manager.op(name)(double)
        task = await bench.manager.submit(name, params={"n": 1})
        other = await bench.manager.submit(name.swapcase(), params={"n": 1})
        await task.result()
        listed = await bench.store.list(op=name)
        backlog = await bench.store.backlog.read(max_age=0)
        await other.cancel()

        assert [row.task_id for row in listed.tasks] == [task.task_id]
        assert {one.op for one in backlog.ops} == {name, name.swapcase()}
        assert bench.captured.value("tapescope.task.submitted", task_op=name) == 1
