"""From an exemplar to its task and back, by command, however the task ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import format_trace_id

from tapescope import (
    EventDropped,
    Reporter,
    StoreUnavailable,
    TaskHandle,
    TaskManager,
    ThreadReporter,
)
from tapescope.model.tasks import NewTask
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.sqlite import SqliteStore
from tests.cli.command import Tapescope, slow
from tests.support.workbench import GRACE, Workbench, started, wait_for_cancel, working


async def end(task: TaskHandle) -> str:
    """Wait for the ``final``, whatever it says; the task's id."""
    await asyncio.gather(task.result(30), return_exceptions=True)
    return task.task_id


async def succeed(bench: Workbench) -> str:
    """It returns."""

    async def work(report: Reporter) -> None:
        """Nothing is written but the end."""

    return await end(await bench.manager.submit("x", work))


async def fail(bench: Workbench) -> str:
    """It raises, and again at its retry."""

    async def work(report: Reporter) -> None:
        raise ValueError("no")

    return await end(await bench.manager.submit("x", work, retries=1))


async def fail_by_result(bench: Workbench) -> str:
    """It returns what no tape takes."""

    async def work(report: Reporter) -> object:
        return object()

    return await end(await bench.manager.submit("x", work))


async def exit_process(bench: Workbench) -> str:
    """It would end the process."""

    async def work(report: Reporter) -> None:
        raise SystemExit(3)

    return await end(await bench.manager.submit("x", work))


async def time_out(bench: Workbench) -> str:
    """Its time is up, and again at its retry."""
    return await end(await bench.manager.submit("x", wait_for_cancel, timeout=0.05, retries=1))


async def cancel(bench: Workbench) -> str:
    """It is cancelled, and stops."""
    task = await bench.manager.submit("x", wait_for_cancel)
    await started(task)
    await task.cancel()
    return await end(task)


async def cancel_again(bench: Workbench) -> str:
    """It is cancelled by two at once."""
    task = await bench.manager.submit("x", wait_for_cancel)
    await started(task)
    await asyncio.gather(task.cancel("first"), task.cancel("second"))
    return await end(task)


async def cancel_and_raise(bench: Workbench) -> str:
    """It is cancelled, and raises something else while it cleans up."""

    async def work(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            raise ValueError("no")

    task = await bench.manager.submit("x", work, retries=1)
    await started(task)
    await task.cancel()
    return await end(task)


async def cancel_between(bench: Workbench) -> str:
    """It is cancelled while it waits for its retry."""
    waiting = asyncio.Event()

    async def work(report: Reporter) -> None:
        waiting.set()
        raise ValueError("no")

    async with TaskManager(bench.store, retry_delay=600.0) as other:
        task = await other.submit("x", work, retries=1)
        await waiting.wait()
        await until(lambda: bool(bench.run_spans(task.task_id)))
        await task.cancel()
        return await end(task)


async def cancel_in_vain(bench: Workbench) -> str:
    """It is cancelled, and returns all the same."""

    async def work(report: Reporter) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await wait_for_cancel(report)
        return "done"

    task = await bench.manager.submit("x", work)
    await started(task)
    await task.cancel()
    return await end(task)


async def cancel_swallowed(bench: Workbench) -> str:
    """It is cancelled, goes on and is fenced."""

    async def work(report: Reporter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await wait_for_cancel(report)
        with contextlib.suppress(EventDropped):
            while True:
                await report.log("info", "late")

    task = await bench.manager.submit("x", work)
    await started(task)
    await task.cancel()
    return await end(task)


async def cancel_in_thread(bench: Workbench) -> str:
    """The same in a thread."""

    def work(report: ThreadReporter) -> None:
        with contextlib.suppress(EventDropped):
            while True:
                report.log("info", "late")

    task = await bench.manager.submit("x", work)
    await started(task)
    await task.cancel()
    return await end(task)


async def cancel_itself(bench: Workbench) -> str:
    """It is cancelled, and nobody has asked for that."""

    async def work(report: Reporter) -> None:
        raise asyncio.CancelledError

    return await end(await bench.manager.submit("x", work))


async def shut_down(bench: Workbench) -> str:
    """Its manager is closed, and no other can run it."""
    task = await bench.manager.submit("x", wait_for_cancel)
    await started(task)
    await bench.manager.aclose()
    return await end(task)


async def release(bench: Workbench) -> str:
    """Its manager is closed and gives it back; another one runs it."""

    async def once(report: Reporter) -> None:
        if report.attempt == 1:
            await wait_for_cancel(report)

    bench.manager.op("x")(once)
    task = await bench.manager.submit("x")
    await started(task)
    await bench.manager.aclose()
    async with TaskManager(bench.store, retry_delay=0.0) as other:
        other.op("x")(once)
        return await end(other.handle(task.task_id))


async def rescue(bench: Workbench) -> str:
    """Its owner dies in its first attempt; a worker makes the next one."""

    async def work(report: Reporter) -> None:
        """Nothing is written but the end."""

    task, _ = await bench.store.create(NewTask(new_task_id(), "x", retries=1))
    claim = await bench.store.claim_if_pending(task, "dead:1:0:aa", 60)
    assert claim is not None
    lost = bench.captured.telemetry.start_run_span("x", task.task_id, 1, "dead", None)
    bench.store.attach_span(claim.attempt, lost.trace_id, None, lost.span_id)
    await bench.store.note_traces([claim.attempt])
    await bench.store.leases.rescue_expired(dead_owners=["dead:1:0:aa"], ops=["x"])
    bench.manager.op("x")(work)
    await end(bench.manager.handle(task.task_id))
    lost.end("lost", error_type="lease_lost")  # in its own process it never would
    return task.task_id


async def lose_lease(bench: Workbench) -> str:
    """Its lease is lost while it runs on; the next attempt is made."""

    async def work(report: Reporter) -> None:
        if report.attempt == 1:
            await wait_for_cancel(report)

    async with TaskManager(bench.store, lease=5, heartbeat=0.05) as other:
        other.op("x", retries=1)(work)
        task = await other.submit("x")
        await started(task)
        await until(  # a heartbeat may hold the row just then
            lambda: bench.store.leases.rescue_expired(dead_owners=[other.owner], ops=["x"])
        )
        return await end(task)


async def lose_store(bench: Workbench) -> str:
    """Its store is gone at its end; when it is back, a worker makes the next attempt."""
    assert isinstance(bench.store, SqliteStore)
    file, moved = Path(bench.store.path), Path(f"{bench.store.path}.moved")

    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        if report.attempt == 1:
            await asyncio.to_thread(file.rename, moved)

    other = await TaskManager(bench.store, lease=1.0, heartbeat=0.2).open()
    other.op("x", retries=1)(work)
    task = await other.submit("x")
    await until(lambda: bool(bench.run_spans(task.task_id)), within=30)
    with contextlib.suppress(StoreUnavailable):  # it says that an end was lost
        await other.aclose()
    await asyncio.to_thread(moved.rename, file)
    bench.manager.op("x", retries=1)(work)
    await bench.store.leases.rescue_expired(dead_owners=[other.owner], ops=["x"])
    return await end(bench.manager.handle(task.task_id))


def number(run: ReadableSpan) -> int:
    """Which attempt it is."""
    told: Any = (run.attributes or {})["tapescope.task.attempt"]
    return int(told)


def read_exemplars(bench: Workbench) -> set[str]:
    """The traces that the metrics of runs point to."""
    found: set[str] = set()
    for name, metric in bench.captured.metrics().items():
        points: Any = metric.data.data_points if name.startswith("tapescope.task.") else ()
        found |= {format_trace_id(e.trace_id) for point in points for e in point.exemplars}
    return found


@pytest.mark.parametrize(
    ("bring_about", "outcomes"),
    [
        (succeed, ["succeeded"]),
        (fail, ["retried", "failed"]),
        (fail_by_result, ["failed"]),
        (exit_process, ["failed"]),
        (time_out, ["retried", "failed"]),
        (cancel, ["cancelled"]),
        (cancel_again, ["cancelled"]),
        (cancel_and_raise, ["cancelled"]),
        (cancel_between, ["retried"]),
        (cancel_in_vain, ["succeeded"]),
        (cancel_swallowed, ["cancelled"]),
        (cancel_in_thread, ["cancelled"]),
        (cancel_itself, ["failed"]),
        (shut_down, ["cancelled"]),
        (release, ["released", "succeeded"]),
        (rescue, ["lost", "succeeded"]),
        (lose_lease, ["lost", "succeeded"]),
        slow(lose_store, ["lost", "succeeded"]),
    ],
)
async def test_each_end_is_found_by_its_exemplar(
    tapescope: Tapescope,
    bring_about: Callable[[Workbench], Awaitable[str]],
    outcomes: list[str],
) -> None:
    """``tapescope trace`` leads from it to the attempt, ``tapescope show`` back to every run, and
    each attempt but the first is linked to the one before."""
    async with working(
        tapescope.store, cancel_grace=GRACE, retry_delay=0.0, heartbeat=20.0, drain=0.0
    ) as bench:
        task_id = await bring_about(bench)
        await until(lambda: len(bench.run_spans(task_id)) == len(outcomes))
        runs = sorted(bench.run_spans(task_id), key=number)
        traces = [format_trace_id(one.context.trace_id) for one in runs if one.context is not None]
        exemplars = read_exemplars(bench)
        shown = tapescope.json("show", task_id)["traces"]
        found = [tapescope.json("trace", trace_id)["attempts"] for trace_id in traces]

    assert [(one.attributes or {})["tapescope.task.outcome"] for one in runs] == outcomes
    assert [one["trace_id"] for one in shown] == traces
    assert exemplars <= set(traces)
    assert traces[-1] in exemplars  # an earlier one of the same length is not kept beside it
    for attempt, (one,) in enumerate(found, start=1):
        assert (one["task_id"], one["attempt"]) == (task_id, attempt)
    for before, after in pairwise(runs):
        linked = {
            str((link.attributes or {})["tapescope.link"]): link.context.span_id
            for link in after.links
        }
        assert before.context is not None
        assert linked["previous_attempt"] == before.context.span_id


async def test_an_end_without_a_run_has_no_exemplar(tapescope: Tapescope) -> None:
    """None that leads to the trace of its canceller, where no run is: ``show`` has that."""
    provider = TracerProvider(shutdown_on_exit=False)
    async with working(tapescope.store) as bench:
        task = await bench.manager.submit("x", wait_for_cancel, delay=600)
        with provider.get_tracer("app").start_as_current_span("press") as span:
            await task.cancel()
        await end(task)
        exemplars = read_exemplars(bench)
        shown = tapescope.json("show", task.task_id)
    provider.shutdown()

    assert exemplars == set()
    assert shown["traces"] == []
    assert format_trace_id(span.get_span_context().trace_id) in shown["cancel"]["traceparent"]
