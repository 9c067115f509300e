"""Tasks that wait here for their time or for a slot, and that end elsewhere meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import format_trace_id

from tapescope import Reporter, TaskCancelled, TaskHandle, TaskManager
from tapescope.model.tasks import FinalEvent
from tapescope.testing import until
from tests.support.workbench import Workbench, started, wait_for_cancel, working


async def fail(report: Reporter) -> None:
    """A runner that needs another try."""
    raise ValueError("not yet")


async def waits_for_its_retry(task: TaskHandle) -> bool:
    """Whether its first attempt has failed and the next one is to come."""
    row = await task.status()
    return row.status.value == "pending" and row.retries_spent == 1


async def cancel_elsewhere(bench: Workbench, task: TaskHandle) -> None:
    """Cancel it as another process does: this one is not told."""
    await bench.store.request_cancel(task.task_id, message="from elsewhere")


async def test_a_cancel_between_attempts_is_heard_before_the_next_is_due(any_url: str) -> None:
    """The handle of a task that waits for its retry learns of the cancel with a heartbeat."""
    async with working(any_url, heartbeat=0.05, retry_delay=600) as bench:
        task = await bench.manager.submit("work", fail, retries=3)
        await until(lambda: waits_for_its_retry(task))
        await cancel_elsewhere(bench, task)
        with pytest.raises(TaskCancelled, match="from elsewhere"):
            await task.result(timeout=30)


async def test_a_cancel_before_the_start_is_heard_before_it_is_due(any_url: str) -> None:
    """The same of one that was to start later; with nothing left to run, closing is at once."""
    async with working(any_url, heartbeat=0.05, drain=600) as bench:
        tasks = [await bench.manager.submit("work", fail, delay=600) for _ in range(3)]
        for task in tasks:
            await cancel_elsewhere(bench, task)
            with pytest.raises(TaskCancelled, match="from elsewhere"):
                await task.result(timeout=30)


async def test_a_cancel_of_what_waits_for_a_slot_is_heard_before_one_is_free(any_url: str) -> None:
    """The slot stays taken, and the one that waited for it has ended all the same."""
    async with working(any_url, heartbeat=0.05, max_running=1) as bench:
        running = await bench.manager.submit("work", wait_for_cancel)
        await started(running)
        task = await bench.manager.submit("work", fail)
        await cancel_elsewhere(bench, task)
        with pytest.raises(TaskCancelled, match="from elsewhere"):
            await task.result(timeout=30)
        await running.cancel()


async def test_what_another_has_done_is_heard_before_a_slot_is_free(any_url: str) -> None:
    """A task that another process ran to its end is not waited for; its result is that one's."""
    async with working(any_url, heartbeat=0.05, max_running=1) as bench:
        running = await bench.manager.submit("work", wait_for_cancel)
        await started(running)
        task = await bench.manager.submit("other", fail)
        claim = await bench.store.claim_if_pending(await task.status(), "other:1:1-1:1", 60)
        assert claim is not None
        span = bench.captured.telemetry.start_run_span("other", task.task_id, 1, "other", None)
        await bench.store.finish_if_running(claim.attempt, FinalEvent.succeeded("theirs"))
        span.end("succeeded", tape_length=2)
        result = await task.result(timeout=30)
        await running.cancel()

    assert result == "theirs"


async def test_nobody_is_asked_where_nothing_waits(any_url: str) -> None:
    """A heartbeat of a manager without waiting tasks costs no question."""
    async with working(any_url, heartbeat=0.01) as bench:
        task = await bench.manager.submit("work", wait_for_cancel)
        await started(task)
        name = "tapescope.store.operation.duration"

        def count(operation: str) -> float:
            return sum(p.value for p in bench.captured.points(name, store_operation=operation))

        beaten = count("rescue_expired")
        await until(lambda: count("rescue_expired") > beaten + 3)
        asked = count("find_ended")
        await task.cancel()
        await asyncio.gather(task.result(), return_exceptions=True)

    assert asked == 0


@pytest.mark.parametrize("kind", ["callable", "by name", "op's own limit", "concurrency key"])
async def test_a_runner_that_waits_for_a_slot_of_its_own_pool_is_named(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Where every slot is taken, or each of the op's own, or of its key; and what is to be done."""
    own = kind in {"op's own limit", "concurrency key"}
    slots = 2 if own else 1
    async with working(sqlite_url, max_running=slots) as bench:
        manager = TaskManager(bench.store, max_running=slots, drain=0, cancel_grace=0)

        of_key = kind == "concurrency key"

        @manager.op(
            "child", max_running=None if of_key else 1, max_concurrent=1 if of_key else None
        )
        async def child(report: Reporter) -> str:
            task = await manager.submit("child")
            return str(await task.result())

        async def wait(report: Reporter) -> str:
            task = await manager.submit("adhoc", succeed) if kind == "callable" else None
            task = task or await manager.submit("child")
            return str(await task.result())

        async with manager:
            if own:
                task = await manager.submit("child")
            else:
                task = await manager.submit("parent", wait)
            await until(lambda: "which waits for a slot" in caplog.text)
            await task.cancel()
        for row in (await bench.store.list()).tasks:
            await bench.store.request_cancel(row.task_id)

    (line,) = [one for one in caplog.records if "which waits for a slot" in one.message]
    (run,) = bench.run_spans(task.task_id)
    context: Any = run.context

    assert f"The runner of task {task.task_id}" in caplog.text
    assert ("Raise max_concurrent" if of_key else "Raise max_running, or max_lent") in line.message
    assert vars(line)["trace_id"] == format_trace_id(context.trace_id)
    assert (vars(line)["task_id"], vars(line)["attempt"]) == (task.task_id, 1)
    assert caplog.text.count("which waits for a slot") == 1


async def succeed(report: Reporter) -> str:
    """Return at once."""
    return "done"
