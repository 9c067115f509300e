"""The span that a cancel was requested in is kept with it; what tells of the end leads there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, SpanContext, Tracer, use_span

from tapescope import Reporter, TaskHandle, TaskManager
from tapescope.http.api import make_app
from tapescope.model.tasks import NewTask
from tapescope.store.flush import CancelAnswer
from tapescope.store.validation import new_task_id
from tapescope.sync import SyncManager
from tapescope.testing import until
from tapescope_telemetry.spans import format_trace_context
from tests.http.client import asking
from tests.support.workbench import GRACE, Workbench, started, wait_for_cancel, working

Canceller = Callable[[Workbench, str, Span], Awaitable[None]]
"""Cancels the task of this id; in this span where it is of this process."""


async def by_handle(bench: Workbench, task_id: str, span: Span) -> None:
    """``TaskHandle.cancel`` in a span."""
    with use_span(span):
        await bench.manager.handle(task_id).cancel("stop")


async def by_other_process(bench: Workbench, task_id: str, span: Span) -> None:
    """Another manager on the store, which tells the run through the database."""
    async with bench.make_other_store() as store, TaskManager(store, work=False) as other:
        with use_span(span):
            await other.handle(task_id).cancel("stop")


async def by_sync(bench: Workbench, task_id: str, span: Span) -> None:
    """``SyncHandle.cancel``, from a thread."""

    def cancel() -> None:
        with SyncManager(bench.make_other_store()) as tasks, use_span(span):
            tasks.handle(task_id).cancel("stop")

    await asyncio.to_thread(cancel)


async def by_http(bench: Workbench, task_id: str, span: Span) -> None:
    """A request with a ``traceparent``, to a server that makes no spans of its own."""
    app = make_app(bench.manager)
    headers = {"traceparent": format_trace_context(span.get_span_context()) or ""}
    async with asking(app) as client:
        answer = await client.post(
            f"/v1/tasks/{task_id}/cancel", json={"message": "stop"}, headers=headers
        )
    assert answer.status_code < 300, answer.text


DOORS = [by_handle, by_other_process, by_sync, by_http]


def ids(context: SpanContext | None) -> tuple[int, int]:
    """Which span it is, here or in another process."""
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan, kind: str) -> list[tuple[int, int]]:
    """Where the links of this kind lead."""
    return [
        ids(link.context)
        for link in span.links
        if (link.attributes or {})["tapescope.link"] == kind
    ]


def told(bench: Workbench, name: str) -> list[ReadableSpan]:
    """The ended spans of this name."""
    return [span for span in bench.captured.spans() if span.name == name]


def has_run(bench: Workbench, task_id: str) -> bool:
    """Whether a run of this task has ended."""
    return bool(bench.run_spans(task_id))


def of_task(span: ReadableSpan, task_id: str) -> bool:
    """Whether it is a span of this task."""
    return (span.attributes or {})["tapescope.task.id"] == task_id


@pytest.fixture
def asker() -> Generator[Tracer]:
    """A tracer of the cancellers'."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider.get_tracer("app")
    provider.shutdown()


async def fail(report: Reporter) -> None:
    """A runner that raises."""
    raise ValueError("again")


async def wait_for_time(bench: Workbench) -> TaskHandle:
    """A task that is due in ten minutes."""
    return await bench.manager.submit("x", wait_for_cancel, delay=600)


async def wait_for_retry(bench: Workbench) -> TaskHandle:
    """A task whose next attempt is made in ten minutes."""
    task = await bench.manager.submit("x", fail, retries=1)
    await until(lambda: bool(bench.run_spans(task.task_id)))
    return task


async def test_a_run_leads_to_its_canceller(store_url: str, asker: Tracer) -> None:
    """Whichever door it came through; the link says what it is."""
    async with working(store_url, heartbeat=0.1) as bench:
        for cancel in DOORS:
            task = await bench.manager.submit("x", wait_for_cancel)
            await started(task)
            with asker.start_as_current_span("press") as span:
                asked = span.get_span_context()
            await cancel(bench, task.task_id, span)
            await until(partial(has_run, bench, task.task_id))
            (run,) = bench.run_spans(task.task_id)
            row = await task.status()

            assert (cancel, linked(run, "cancel")) == (cancel, [ids(asked)])
            assert row.cancel is not None
            assert row.cancel.traceparent == format_trace_context(asked)
    assert told(bench, "cancel x") == []


@pytest.mark.parametrize("wait", [wait_for_time, wait_for_retry])
async def test_a_task_that_waits_ends_in_its_cancellers_trace(
    store_url: str, asker: Tracer, wait: Callable[[Workbench], Awaitable[TaskHandle]]
) -> None:
    """No run tells of its end, so a span of the cancel does: a child of the canceller's, linked to
    the submit."""
    async with working(store_url, retry_delay=600.0) as bench:
        for cancel in DOORS:
            task = await wait(bench)
            with asker.start_as_current_span("press") as span:
                asked = span.get_span_context()
            await cancel(bench, task.task_id, span)
            row = await task.status()
            found = [one for one in told(bench, "cancel x") if of_task(one, task.task_id)]
            (submit,) = [one for one in told(bench, "submit x") if of_task(one, task.task_id)]

            assert (row.status.value, len(found)) == ("cancelled", 1)
            assert row.cancel is not None
            assert row.cancel.traceparent == format_trace_context(asked)
            for ended in found:
                assert ids(ended.parent) == ids(asked)
                assert linked(ended, "submit") == [ids(submit.context)]
                assert ended.status.status_code.name == "UNSET"
                assert dict(ended.attributes or {}) == {
                    "tapescope.task.op": "x",
                    "tapescope.task.id": task.task_id,
                    "tapescope.task.attempt": row.attempt,
                    "tapescope.task.outcome": "cancelled",
                    "tapescope.cancel.reason": "user",
                    "tapescope.cancel.requested": True,
                    "tapescope.tape.length": 3 if row.attempt else 1,
                }


async def test_the_first_canceller_stays(asker: Tracer) -> None:
    """The second one changes nothing of the request, and so nothing of the link."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("x", wait_for_cancel)
        await started(task)
        asked: list[SpanContext] = []
        answers: list[CancelAnswer] = []
        for _ in range(2):
            with asker.start_as_current_span("press") as span:
                asked.append(span.get_span_context())
                answers.append(await task.cancel())
        await until(lambda: bool(bench.run_spans(task.task_id)))
        (run,) = bench.run_spans(task.task_id)

    assert linked(run, "cancel") == [ids(asked[0])]
    first = format_trace_context(asked[0])
    assert [one.request and one.request.traceparent for one in answers] == [first, first]


async def test_what_is_not_recorded_is_not_led_to() -> None:
    """Neither a span that is not sampled, nor no span at all."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    async with working("memory:") as bench:
        for span in (provider.get_tracer("app").start_span("press"), None):
            task = await bench.manager.submit("x", wait_for_cancel)
            await started(task)
            if span is None:
                await task.cancel()
            else:
                await by_handle(bench, task.task_id, span)
            await until(partial(has_run, bench, task.task_id))
            (run,) = bench.run_spans(task.task_id)
            row = await task.status()

            assert linked(run, "cancel") == []
            assert row.cancel is not None
            assert row.cancel.traceparent is None
    provider.shutdown()


async def test_a_cancel_that_lost_is_led_to_as_well(asker: Tracer) -> None:
    """The run that returned all the same says that it was asked to stop, and by whom."""

    async def return_all_the_same(report: Reporter) -> str:
        try:
            await wait_for_cancel(report)
        except asyncio.CancelledError:
            return "done"
        return ""

    async with working("memory:") as bench:
        task = await bench.manager.submit("x", return_all_the_same)
        await started(task)
        with asker.start_as_current_span("press") as span:
            await task.cancel()
        assert await task.result(30) == "done"
        await until(lambda: bool(bench.run_spans(task.task_id)))
        (run,) = bench.run_spans(task.task_id)

    assert linked(run, "cancel") == [ids(span.get_span_context())]


async def test_a_rescue_leads_to_the_canceller_of_its_task(any_url: str, asker: Tracer) -> None:
    """The owner died before it had heard of the cancel: the rescuer ends the task."""
    async with working(any_url) as bench:
        task, _ = await bench.store.create(NewTask(new_task_id(), "x", retries=1))
        claim = await bench.store.claim_if_pending(task, "dead:1:0:aa", 60)
        assert claim is not None
        lost = bench.captured.telemetry.start_run_span("x", task.task_id, 1, "dead", None)
        with asker.start_as_current_span("press") as span:
            await bench.manager.handle(task.task_id).cancel()
        await bench.store.leases.rescue_expired(dead_owners=["dead:1:0:aa"], ops=["x"])
        (rescue,) = told(bench, "rescue x")
        lost.end("lost", error_type="lease_lost")  # in its own process it never would

    assert linked(rescue, "cancel") == [ids(span.get_span_context())]


async def test_a_runner_that_cancels_another_task_is_its_canceller() -> None:
    """Its own run is the span that the other run leads to."""
    async with working("memory:", cancel_grace=GRACE) as bench:
        other = await bench.manager.submit("x", wait_for_cancel)
        await started(other)

        async def cancel_other(report: Reporter) -> None:
            await other.cancel("not needed")

        task: TaskHandle = await bench.manager.submit("y", cancel_other)
        await task.result(30)
        await until(lambda: bool(bench.run_spans(other.task_id)))
        (run,) = bench.run_spans(other.task_id)
        (canceller,) = bench.run_spans(task.task_id)

    assert linked(run, "cancel") == [ids(canceller.context)]
