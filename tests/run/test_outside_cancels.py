"""A run's asyncio task that is cancelled from outside while one of its writes is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tapescope import Reporter, TaskFailed, TaskManager
from tapescope.model.tasks import TaskStatus
from tapescope.store.flush import Flush, FlushAnswer
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
        task = await bench.manager.submit("work", succeed)
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
