"""A run's asyncio task that is cancelled from outside while one of its writes is in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from tapescope import Reporter, TaskCancelled, TaskFailed, TaskManager, ThreadReporter
from tapescope.model.tasks import TaskStatus
from tapescope.store.flush import Flush, FlushAnswer
from tapescope.testing import until
from tests.support.workbench import Workbench, ended, working


def cancel_runs() -> None:
    """Cancel all asyncio tasks of runs, as ``asyncio.run`` does at its end, or a framework."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith("tapescope-run-"):
            task.cancel()


def cancel_at(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Flush], bool]
) -> Callable[[], bool]:
    """Cancel the runs once, when the first flush of this kind is committed and not answered."""
    write = bench.store.backend.write
    done: list[bool] = []

    async def write_and_cancel(flush: Flush) -> FlushAnswer:
        answer = await write(flush)
        if not done and wanted(flush):
            done.append(True)
            cancel_runs()
            await asyncio.sleep(0)  # the run asks again before it is answered
        return answer

    monkeypatch.setattr(bench.store.backend, "write", write_and_cancel)
    queue = bench.store._core.require_open()  # pyright: ignore[reportPrivateUsage]  # the queue holds the method
    monkeypatch.setattr(queue, "_write_once", write_and_cancel)
    return lambda: bool(done)


async def succeed(report: Reporter) -> int:
    """Return at once."""
    return 1


async def test_at_the_claim(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner is not begun; the task fails at once as the table says, with its span."""
    async with working(any_url) as bench:
        hit = cancel_at(bench, monkeypatch, lambda flush: bool(flush.claims))
        # With a key it is created first, and claimed then.
        task = await bench.manager.submit("work", succeed, idempotency_key="k")
        with pytest.raises(TaskFailed, match="unrequested_cancel"):
            await task.result(10)

        assert hit()
        assert await bench.account(task) == ended("failed", error="unrequested_cancel")


async def test_at_the_final(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner has returned: it has done its task."""
    async with working(any_url) as bench:
        hit = cancel_at(
            bench, monkeypatch, lambda flush: any(row.type == "final" for row in flush.rows)
        )
        task = await bench.manager.submit("work", succeed)

        assert await task.result(10) == 1
        assert hit()
        assert await bench.account(task) == ended("succeeded")


async def test_at_the_retry(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt has failed: the next one is made."""
    failures = [RuntimeError("planned")]

    async def fail_once(report: Reporter) -> int:
        if failures:
            raise failures.pop()
        return 1

    async with working(any_url, retry_delay=0.01) as bench:
        hit = cancel_at(bench, monkeypatch, lambda flush: bool(flush.give_ups))
        task = await bench.manager.submit("work", fail_once, retries=1)

        assert await task.result(10) == 1
        assert hit()
        assert (await task.status()).attempt == 2
        assert await bench.drops(task) == {}


async def test_at_the_release(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is given back: another worker can run it."""
    async with working(any_url) as bench:
        manager = TaskManager(bench.store, drain=0)
        begun = asyncio.Event()

        @manager.op("work")
        async def wait(report: Reporter) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with manager:
            hit = cancel_at(bench, monkeypatch, lambda flush: bool(flush.give_ups))
            task = await manager.submit("work")
            await begun.wait()
        row = await bench.store.get(task.task_id)

        assert hit()
        assert (row.status, row.retries_spent) == (TaskStatus.PENDING, 0)
        assert await bench.drops(task) == {}
        await bench.store.request_cancel(task.task_id)


async def test_a_thread_that_is_left_behind_is_a_zombie() -> None:
    """It goes on by itself, and counts as one until it ends."""
    running, going_on = threading.Event(), threading.Event()

    def work(report: ThreadReporter) -> None:
        running.set()
        going_on.wait(20)

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await until(running.is_set)
        cancel_runs()
        with pytest.raises(TaskFailed, match="unrequested_cancel"):
            await task.result(10)
        zombies = [point.value for point in bench.captured.points("tapescope.task.zombies")]
        going_on.set()
        await bench.zombies_ended()

    assert zombies == [1]


async def test_what_a_stopped_thread_returns_is_not_begun() -> None:
    """A plain function may return what is to be awaited: not after it was told to stop."""
    begun: list[str] = []
    running = threading.Event()

    async def rest() -> None:
        begun.append("the rest")

    def work(report: ThreadReporter) -> Awaitable[None]:
        running.set()
        while not report.cancel_requested:
            report.log("info", "not yet")
        return rest()

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        await until(running.is_set)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result(10)

    assert begun == []
