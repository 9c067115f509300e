"""Retries of a manager: attempts that are made again, each with a span of its own."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tapescope import Reporter, TaskCancelled, TaskFailed, TaskHandle, TaskManager
from tapescope.errors import BadSetting
from tapescope.testing import MemoryStore, until
from tests.support.workbench import GRACE, Workbench, started, wait_for_cancel, working


class Flaky:
    """A runner that fails until it has been called ``good`` times."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.calls = 0

    async def __call__(self, report: Reporter) -> int:
        """Fail, or give the number of the call."""
        self.calls += 1
        await report.log("info", f"call {self.calls}")
        if self.calls < self.good:
            raise ValueError("not yet")
        return self.calls


async def types(task: TaskHandle) -> list[str]:
    """The types of the events on a task's tape."""
    return [event.type for event in (await task.tape()).events]


async def pending_again(task: TaskHandle) -> None:
    """Wait until an attempt of the task has been given up."""

    async def is_pending() -> bool:
        row = await task.status()
        return row.status.value == "pending" and row.attempt > 0

    await until(is_pending)


def outcomes(bench: Workbench, task: TaskHandle) -> list[tuple[int, str, str]]:
    """Attempt, outcome and status of each run span of a task."""
    return [
        (
            int(str((span.attributes or {})["tapescope.task.attempt"])),
            str((span.attributes or {})["tapescope.task.outcome"]),
            span.status.status_code.name,
        )
        for span in bench.run_spans(task.task_id)
    ]


async def test_a_failed_attempt_is_made_again(any_url: str) -> None:
    """The tape tells both failures and then the success; each attempt has a linked root span."""
    async with working(any_url, retry_delay=0.01) as bench:
        task = await bench.manager.submit("work", Flaky(3), retries=5)
        result = await task.result()
        row = await task.status()
        attempt = ["task_started", "log"]
        spans = bench.run_spans(task.task_id)
        retried = bench.captured.points("tapescope.task.retries", error_type="ValueError")

        assert result == 3
        assert (row.attempt, row.retries_spent) == (3, 2)
        assert await types(task) == [*([*attempt, "attempt_failed"]) * 2, *attempt, "final"]
        assert outcomes(bench, task) == [
            (1, "retried", "ERROR"),
            (2, "retried", "ERROR"),
            (3, "succeeded", "UNSET"),
        ]
        assert len({span.context.trace_id for span in spans if span.context}) == 3
        assert [len(span.links) for span in spans] == [1, 2, 2]  # the submit, and the run before
        assert [point.value for point in retried] == [2]


async def test_a_callable_waits_for_its_owner_between_attempts() -> None:
    """Its row says whose it is: with its owner's end it is lost, and not pending for ever."""
    async with working("memory:", retry_delay=3_600) as bench:
        task = await bench.manager.submit("work", Flaky(good=2), retries=1)
        await pending_again(task)
        row = await task.status()

        assert row.owner == bench.manager.owner
        assert row.lease_expires_us is not None


async def test_a_retry_that_comes_too_late_is_none() -> None:
    """The task was taken from the attempt before it failed: the attempt is lost (I5)."""
    async with working("memory:") as bench:

        async def work(report: Reporter) -> None:
            await bench.store.leases.rescue_expired(dead_owners=[bench.manager.owner])
            raise ValueError("too late")

        task = await bench.manager.submit("work", work, retries=1)
        with pytest.raises(TaskFailed, match="worker_lost"):
            await task.result(10)

        assert [outcome for _, outcome, _ in outcomes(bench, task)] == ["lost"]


async def test_the_last_failure_is_the_tasks(any_url: str) -> None:
    """With no retry left the error of the last attempt ends the task."""
    async with working(any_url, retry_delay=0.01) as bench:
        task = await bench.manager.submit("work", Flaky(9), retries=1)
        with pytest.raises(TaskFailed, match="not yet"):
            await task.result()
        durations = bench.captured.points("tapescope.task.duration", task_op="work")

        assert outcomes(bench, task) == [(1, "retried", "ERROR"), (2, "failed", "ERROR")]
        assert [point.value for point in durations] == [1]


async def test_a_timeout_is_retried(any_url: str) -> None:
    """An attempt that ran out of time is one that failed."""
    async with working(any_url, retry_delay=0.01) as bench:
        task = await bench.manager.submit("work", wait_for_cancel, timeout=0.05, retries=1)
        with pytest.raises(TaskFailed, match=r"timeout of 0\.05 s"):
            await task.result()

        assert outcomes(bench, task) == [(1, "retried", "ERROR"), (2, "failed", "ERROR")]


async def test_a_thread_that_timed_out_is_retried_after_the_grace(any_url: str) -> None:
    """A thread cannot be stopped: it is fenced, and what it reports later is dropped."""
    release = threading.Event()
    calls: list[int] = []

    def work(report: Any) -> int:
        calls.append(len(calls))
        if len(calls) == 1:
            release.wait(30)
        return len(calls)

    async with working(any_url, retry_delay=0.01, cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", work, timeout=0.5, retries=1)
        result = await task.result()
        release.set()

        assert result == 2
        assert outcomes(bench, task) == [(1, "retried", "ERROR"), (2, "succeeded", "UNSET")]


async def test_what_no_retry_mends_is_not_retried(any_url: str) -> None:
    """A result that is not JSON and an exit are failures for good."""

    async def bad(report: Reporter) -> object:
        return object()

    async def leave(report: Reporter) -> None:
        raise SystemExit(3)

    async with working(any_url, retry_delay=0.01) as bench:
        for runner in (bad, leave):
            task = await bench.manager.submit("work", runner, retries=3)
            with pytest.raises(TaskFailed):
                await task.result()

            assert (await task.status()).attempt == 1


async def test_a_cancel_between_attempts(any_url: str) -> None:
    """A task that waits for its retry ends at once when it is cancelled, and no attempt follows."""
    async with working(any_url, retry_delay=600) as bench:
        runner = Flaky(9)
        task = await bench.manager.submit("work", runner, retries=3)
        await pending_again(task)
        await task.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            await task.result()

        assert runner.calls == 1
        assert await types(task) == ["task_started", "log", "attempt_failed", "final"]
        assert outcomes(bench, task) == [(1, "retried", "ERROR")]


async def test_a_cancelled_attempt_is_not_retried(any_url: str) -> None:
    """A cancel ends the task, also when the cleanup raises, whatever retries are left."""

    async def clean_up_badly(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            raise ValueError("in cleanup")

    async with working(any_url, retry_delay=0.01) as bench:
        task = await bench.manager.submit("work", clean_up_badly, retries=3)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()

        assert outcomes(bench, task) == [(1, "cancelled", "UNSET")]


async def test_closing_cancels_what_waits_for_a_retry(any_url: str) -> None:
    """After the drain a task that waits for its retry ends as cancelled: no process can run it."""
    async with working(any_url, retry_delay=600, drain=0) as bench:
        task = await bench.manager.submit("work", Flaky(9), retries=3)
        await pending_again(task)
        await bench.manager.aclose()
        row = await bench.store.get(task.task_id)

        assert row.status.value == "cancelled"
        assert row.cancel is not None
        assert row.cancel.reason.value == "shutdown"


async def test_a_delayed_task_starts_when_it_is_due(any_url: str) -> None:
    """Neither a delay nor a time to run at is claimed too early."""
    async with working(any_url, max_running=1) as bench:
        later = datetime.now(UTC) + timedelta(seconds=0.2)
        delayed = await bench.manager.submit("late", Flaky(1), delay=0.2)
        timed = await bench.manager.submit("late", Flaky(1), run_at=later)
        await asyncio.gather(delayed.result(), timed.result())
        rows = [await task.status() for task in (delayed, timed)]

        assert all((row.claimed_us or 0) >= row.run_us for row in rows)
        assert rows[1].run_at == later


async def test_a_delayed_task_holds_no_slot(any_url: str) -> None:
    """Others run while it waits for its time."""
    async with working(any_url, max_running=1) as bench:
        later = datetime.now(UTC) + timedelta(seconds=600)
        delayed = await bench.manager.submit("late", Flaky(1), delay=600)
        timed = await bench.manager.submit("late", Flaky(1), run_at=later)
        prompt = await bench.manager.submit("prompt", Flaky(1))
        result = await prompt.result()
        rows = [await task.status() for task in (delayed, timed)]
        for task in (delayed, timed):
            await task.cancel()

        assert result == 1
        assert [row.status.value for row in rows] == ["pending", "pending"]


@pytest.mark.parametrize(
    "settings",
    [{"retries": -1}, {"delay": -1.0}, {"run_at": datetime(2030, 1, 1)}],  # noqa: DTZ001  # no zone is the fault
)
async def test_bad_settings_of_a_submit_are_refused(settings: dict[str, Any]) -> None:
    """A negative count or delay and a time without a zone are errors, and make no task."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        with pytest.raises(BadSetting):
            await manager.submit("work", Flaky(1), **settings)

        assert sum((await store.count()).values()) == 0
