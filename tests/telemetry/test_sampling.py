"""``LinkSampler``: a run is recorded where its submit is."""

from __future__ import annotations

import asyncio
import os

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Link, SpanContext, TraceFlags, format_trace_id

from tapescope import Reporter, TaskManager
from tapescope.testing import MemoryStore
from tapescope_telemetry import LinkSampler, Telemetry, setup

TASKS = 1_000
SUBMIT = "00-" + "a" * 32 + "-" + "b" * 16


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


async def test_a_fifth_of_the_tasks_has_no_link_to_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling 0.2 over 1,000 tasks, every fourth of which is tried twice."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.2")

    async def flaky(report: Reporter, *, fails: bool) -> None:
        if fails and report.attempt == 1:
            raise ValueError("again")

    exporter = InMemorySpanExporter()
    with setup(metric_readers=[InMemoryMetricReader()]) as made:
        assert made.tracer_provider is not None
        made.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        store = MemoryStore(telemetry=made.telemetry)
        async with store, TaskManager(store, max_running=100, retry_delay=0.0) as manager:
            tasks = [
                await manager.submit("x", flaky, params={"fails": nth % 4 == 0}, retries=1)
                for nth in range(TASKS)
            ]
            await asyncio.gather(*(task.result(60) for task in tasks))
            traced = await store.read_traced([task.task_id for task in tasks])
    spans = exporter.get_finished_spans()
    there = {span.context.span_id for span in spans if span.context is not None}
    links = [link.context.span_id for span in spans for link in span.links]
    submits = sum(span.name == "submit x" for span in spans)
    runs = {span.context.trace_id for span in spans if span.name == "run x" and span.context}

    assert set(links) - there == set()
    assert 0.1 * TASKS < submits < 0.3 * TASKS
    assert submits < len(runs) < len(links)  # the second attempts are there, with two links each
    assert {one.trace_id for one in traced} == {format_trace_id(run) for run in runs}


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("inner", [ALWAYS_ON, ALWAYS_OFF])
def test_run_follows_its_link(inner: Sampler, flags: str) -> None:
    """Whatever the sampler of other roots says; without a link that one decides."""
    exporter = InMemorySpanExporter()
    providers = TracerProvider(sampler=LinkSampler(ParentBased(inner)), shutdown_on_exit=False)
    providers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=providers)
    child = Telemetry(tracer_provider=providers, trace_mode="child")
    linked = telemetry.start_run_span("x", "id", 1, "me", f"{SUBMIT}-{flags}")
    second = child.start_run_span("x", "id", 2, "me", f"{SUBMIT}-{flags}")
    first = child.start_run_span("x", "id", 1, "me", f"{SUBMIT}-{flags}")
    alone = telemetry.start_run_span("x", "id", 1, "me", None)
    submit = SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(int(flags)))
    others = providers.get_tracer("others").start_span("job", links=[Link(submit)])
    for run in (linked, second, first, alone):
        run.end("succeeded")
    others.end()
    providers.shutdown()

    assert [run.sampled for run in (linked, second, first)] == [flags == "01"] * 3
    assert alone.sampled == (inner is ALWAYS_ON)
    assert others.get_span_context().trace_flags.sampled == (inner is ALWAYS_ON)
    assert len(exporter.get_finished_spans()) == 3 * (flags == "01") + 2 * (inner is ALWAYS_ON)
