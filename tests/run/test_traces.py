"""A run's trace is kept with its task, no later than its first own write or heartbeat."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_span_id, format_trace_id

from tapescope import Reporter, TaskFailed, TaskManager, Telemetry, find_store
from tapescope.testing import until
from tests.support.workbench import Workbench, working


async def nothing(report: Reporter) -> None:
    """A runner that writes nothing."""


async def find_kept(bench: Workbench, task_id: str) -> list[tuple[int, str, str]]:
    """What is kept of a task's runs: attempt, trace and span."""
    kept = await bench.store.read_traced([task_id])
    return [(one.attempt, one.trace_id, one.span_id) for one in kept]


def list_spans(bench: Workbench, task_id: str) -> list[tuple[int, str, str]]:
    """The same of the run spans that ended."""
    found: list[tuple[int, str, str]] = []
    for span in bench.run_spans(task_id):
        context: Any = span.context
        attempt: Any = (span.attributes or {})["tapescope.task.attempt"]
        ids = format_trace_id(context.trace_id), format_span_id(context.span_id)
        found.append((attempt, *ids))
    return sorted(found)


async def test_each_attempt_is_found_by_its_trace(any_url: str) -> None:
    """A task that writes nothing, one that reports, and each attempt of one that is retried."""

    async def report_twice(report: Reporter) -> None:
        await report.emit("one")
        await report.emit("two")

    async def fail(report: Reporter) -> None:
        raise ValueError("again")

    async with working(any_url, retry_delay=0.0) as bench:
        for runner, retries in ((nothing, 0), (report_twice, 0), (fail, 2)):
            task = await bench.manager.submit("x", runner, retries=retries)
            try:
                await task.result(30)
            except TaskFailed:
                assert runner is fail
            kept = await find_kept(bench, task.task_id)
            (found,) = await bench.store.find_traced(kept[-1][1])

            assert kept == list_spans(bench, task.task_id)
            assert len(kept) == retries + 1
            assert (found.task_id, found.attempt) == (task.task_id, retries + 1)


async def test_running_task_is_found_after_its_first_write_or_heartbeat(any_url: str) -> None:
    """One that reports at once, one that says nothing with the next heartbeat."""
    go_on = asyncio.Event()

    async def report_and_wait(report: Reporter) -> None:
        await report.emit("begun")
        await go_on.wait()

    async def wait(report: Reporter) -> None:
        await go_on.wait()

    async with working(any_url, heartbeat=0.05) as bench:
        talks = await bench.manager.submit("x", report_and_wait)
        waits = await bench.manager.submit("x", wait)
        for task in (talks, waits):

            async def is_kept(task_id: str = task.task_id) -> bool:
                return bool(await find_kept(bench, task_id))

            await until(is_kept)
        running = {(await task.status()).status.value for task in (talks, waits)}
        go_on.set()
        for task in (talks, waits):
            await task.result(30)
            assert await find_kept(bench, task.task_id) == list_spans(bench, task.task_id)

    assert running == {"running"}


@pytest.mark.parametrize("sampled_out", [False, True], ids=["no telemetry", "not sampled"])
async def test_nothing_is_kept_where_nothing_records(store_url: str, sampled_out: bool) -> None:
    """A task without a recorded span costs no row more."""
    tracers = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False) if sampled_out else None
    telemetry = Telemetry(tracer_provider=tracers)
    async with (
        find_store(store_url, telemetry=telemetry) as store,
        TaskManager(store, heartbeat=0.05) as manager,
    ):
        task = await manager.submit("x", nothing)
        await task.result(30)
        kept = await store.read_traced([task.task_id])
    if tracers is not None:
        tracers.shutdown()

    assert list(kept) == []
