"""A run's trace is kept with its task, no later than its first own write or heartbeat."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_span_id, format_trace_id

from tapescope import Reporter, TaskFailed, TaskManager, Telemetry, find_store
from tapescope.model.tasks import NewTask
from tapescope.store.validation import new_task_id
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


def list_links(span: ReadableSpan) -> dict[str, str]:
    """By kind the span that a link leads to."""
    return {
        str((link.attributes or {})["tapescope.link"]): format_span_id(link.context.span_id)
        for link in span.links
    }


async def test_next_attempt_is_linked_to_the_one_before(any_url: str) -> None:
    """And each to the submit; every link says what it is."""

    async def fail(report: Reporter) -> None:
        raise ValueError("again")

    async with working(any_url, retry_delay=0.0) as bench:
        task = await bench.manager.submit("x", fail, retries=2)
        with pytest.raises(TaskFailed):
            await task.result(30)
        runs = bench.run_spans(task.task_id)
        submitted: Any = bench.captured.spans()[0].context
        submit = format_span_id(submitted.span_id)
    spans = [span_id for _, _, span_id in list_spans(bench, task.task_id)]

    assert [list_links(run) for run in runs] == [
        {"submit": submit},
        {"submit": submit, "previous_attempt": spans[0]},
        {"submit": submit, "previous_attempt": spans[1]},
    ]


async def test_run_says_what_it_was_given() -> None:
    """On its span, from its start: how long it waited and may run, what follows, what it calls."""

    class Import:
        async def __call__(self, report: Reporter, table: str) -> None:
            raise ValueError(table)

    async with working("memory:", retry_delay=0.0) as bench:
        limited = await bench.manager.submit(
            "x", Import(), params={"table": "t"}, timeout=60, retries=1
        )
        simple = await bench.manager.submit("x", partial(nothing))
        with pytest.raises(TaskFailed):
            await limited.result(30)
        await simple.result(30)
        first, second = (dict(one.attributes or {}) for one in bench.run_spans(limited.task_id))
        (other,) = (dict(one.attributes or {}) for one in bench.run_spans(simple.task_id))
    called = f"{__name__}.{Import.__call__.__qualname__}"
    waits = [one["tapescope.task.queue.wait_time"] for one in (first, second, other)]

    assert [one["tapescope.task.retries.left"] for one in (first, second, other)] == [1, 0, 0]
    assert [one["code.function.name"] for one in (first, second)] == [called, called]
    assert other["code.function.name"] == f"{__name__}.nothing"
    assert first["tapescope.task.timeout"] == 60.0
    assert "tapescope.task.timeout" not in other
    assert all(isinstance(wait, float) and 0.0 <= wait < 30.0 for wait in waits)


async def test_rescue_and_next_attempt_are_linked_to_the_lost_run(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The lost run's span never ends; what takes its place leads to it, the log line, too."""
    async with working(any_url, retry_delay=0.0, heartbeat=20.0) as bench:
        ran: list[int] = []

        async def again(report: Reporter) -> None:
            ran.append(report.attempt)

        task, _ = await bench.store.create(NewTask(new_task_id(), "lost", retries=1))
        claim = await bench.store.claim_if_pending(task, "dead:1:0:aa", 60)
        assert claim is not None
        lost = bench.captured.telemetry.start_run_span("lost", task.task_id, 1, "dead", None)
        bench.store.attach_span(claim.attempt, lost.trace_id, None, lost.span_id)
        await bench.store.note_traces([claim.attempt])
        with caplog.at_level(logging.WARNING):
            await bench.store.leases.rescue_expired(dead_owners=["dead:1:0:aa"], ops=["lost"])
        bench.manager.op("lost")(again)
        await bench.manager.handle(task.task_id).result(30)
        await until(lambda: bool(bench.run_spans(task.task_id)))
        (rescue,) = [one for one in bench.captured.spans() if one.name == "rescue lost"]
        (run,) = bench.run_spans(task.task_id)
        lost.end("lost", error_type="lease_lost")  # in its own process it never would
    (line,) = [record for record in caplog.records if "was taken from" in record.message]

    assert list_links(rescue) == {"rescued_run": lost.span_id}
    assert list_links(run) == {"previous_attempt": lost.span_id}
    assert (vars(line)["trace_id"], vars(line)["span_id"]) == (lost.trace_id, lost.span_id)
    assert (vars(line)["task_id"], vars(line)["attempt"]) == (task.task_id, 1)
    assert ran == [2]


async def test_cancel_from_outside_while_the_run_before_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at the claim: the runner is not begun, and the task ends."""
    asked = asyncio.Event()
    begun: list[int] = []

    async def hang(_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async def fail(report: Reporter) -> None:
        begun.append(report.attempt)
        raise ValueError("again")

    async with working("memory:", retry_delay=0.0) as bench:
        monkeypatch.setattr(bench.store.backend, "read_traced", hang)
        task = await bench.manager.submit("x", fail, retries=1)
        await asked.wait()
        name = f"tapescope-run-{task.task_id}"
        (run,) = [one for one in asyncio.all_tasks() if one.get_name() == name]
        run.cancel()
        with pytest.raises(TaskFailed, match="unrequested_cancel"):
            await task.result(5)

    assert begun == [1]
