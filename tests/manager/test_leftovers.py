"""What a finished task leaves behind in its manager: nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable, Sized
from typing import Any

import pytest

from tapescope import Reporter, Submission, TaskHandle, TaskManager, ThreadReporter
from tapescope.model.tape import Event
from tapescope.model.tasks import Attempt, Claim, FinalEvent, Task
from tapescope.run import Completion, Run, Runner
from tapescope.run.attempt import RunRecord
from tapescope.run.tape_writer import TapeWriter
from tapescope.testing import MemoryStore

OURS = (
    *(Run, RunRecord, TapeWriter, Runner, Completion, Task, Attempt, Claim, FinalEvent, Event),
    *(Reporter, ThreadReporter, TaskHandle, asyncio.Task),
)


def count_ours() -> Counter[type]:
    """The objects of our own that are alive, by type."""
    gc.collect()
    alive = Counter(map(type, gc.get_objects()))
    return Counter({kind: alive[kind] for kind in OURS})


async def succeed(report: Reporter) -> str:
    """Report and succeed."""
    await report.log("info", "here")
    return "done"


async def fail(report: Reporter) -> None:
    """Report and fail."""
    await report.log("info", "here")
    raise ValueError("no")


async def wait(report: Reporter) -> None:
    """Wait to be cancelled."""
    await asyncio.Event().wait()


def block(report: ThreadReporter) -> None:
    """Report from a thread."""
    report.log("info", "here")


async def run_all(manager: TaskManager, n: int) -> None:
    """Run tasks of every kind to their ends."""
    kinds: list[Callable[..., Any]] = [succeed, fail, wait, block]
    tasks = await manager.submit_many(
        [Submission("work", kinds[i % len(kinds)], timeout=60) for i in range(n)]
    )
    await asyncio.gather(*(task.cancel() for task in tasks[2 :: len(kinds)]))
    await asyncio.gather(*(task.result() for task in tasks), return_exceptions=True)


async def test_a_finished_task_leaves_nothing_behind(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After 1,000 tasks of every kind the manager holds no object more than before."""
    caplog.set_level(logging.CRITICAL)
    async with TaskManager(sqlite_url) as manager:
        await run_all(manager, 8)
        await asyncio.sleep(0)
        before = count_ours()
        await run_all(manager, 1_000)
        await asyncio.sleep(0)
        more = {kind: n - before[kind] for kind, n in count_ours().items() if n > before[kind] + 2}
        pool: object = vars(manager)["_pool"]
        kept = {name: len(value) for name, value in vars(pool).items() if isinstance(value, Sized)}

    assert {name: n for name, n in kept.items() if n} == {}
    assert more == {}


@pytest.mark.parametrize("kind", [succeed, fail])
async def test_a_handle_keeps_its_result_and_no_run(
    kind: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A handle that is kept keeps how its task ended, and neither run nor asyncio task."""
    caplog.set_level(logging.CRITICAL)  # a record that is kept keeps the exception it carries
    all_run = asyncio.Barrier(11)

    async def work(report: Reporter) -> str:
        await all_run.wait()
        result: str = await kind(report)
        return result

    before = count_ours()  # a loop that another test closed may hold some
    async with MemoryStore() as store, TaskManager(store) as manager:
        tasks = [await manager.submit("work", work) for _ in range(10)]
        await all_run.wait()
        running = count_ours() - before
        await asyncio.gather(*(task.result() for task in tasks), return_exceptions=True)
        await asyncio.sleep(0)
        ended = count_ours() - before

    assert (running[Run], running[TapeWriter]) == (10, 10)
    assert (ended[Run], ended[TapeWriter]) == (0, 0)
    assert len(tasks) == 10
