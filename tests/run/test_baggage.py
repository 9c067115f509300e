"""The submitter's baggage reaches the runner and its command where that is on, and nobody else."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import baggage, context

from tapescope import Reporter, ShellCommand, TaskManager, Telemetry, find_store
from tapescope.model.json_shapes import task_shape
from tests.support.captured_telemetry import CapturedTelemetry

SECRET = "hunter2"


def tell(captured: CapturedTelemetry, **settings: Any) -> Telemetry:
    """A telemetry on these providers."""
    return Telemetry(
        tracer_provider=captured.tracer_provider,
        meter_provider=captured.meter_provider,
        **settings,
    )


async def see(report: Reporter) -> dict[str, object]:
    """A runner that gives what it has."""
    return {"seen": dict(baggage.get_all()), "header": report.baggage}


def see_in_thread(report: Any) -> dict[str, object]:
    """The same in a thread."""
    return {"seen": dict(baggage.get_all()), "header": report.baggage}


@pytest.mark.parametrize("runs", ["off", "on"])
@pytest.mark.parametrize("submits", ["off", "on"])
async def test_it_is_handed_on_where_both_say_so(
    sqlite_url: str, captured: CapturedTelemetry, submits: str, runs: str
) -> None:
    """By default neither stores it nor hands it on."""
    token = context.attach(baggage.set_baggage("tenant", SECRET))
    try:
        async with (
            find_store(sqlite_url) as store,
            TaskManager(store, telemetry=tell(captured, baggage=submits), work=False) as asks,
        ):
            task = await asks.submit("see")
            stored = (await store.get(task.task_id)).traceparent or ""
            async with TaskManager(store, telemetry=tell(captured, baggage=runs)) as works:
                works.op("see")(see)
                result = await works.handle(task.task_id).result(30)
    finally:
        context.detach(token)
    carried = submits == runs == "on"

    assert (SECRET in stored) is (submits == "on")
    assert result["seen"] == ({"tenant": SECRET} if carried else {})
    assert result["header"] == (f"tenant={SECRET}" if carried else None)


async def test_nobody_else_is_told(
    sqlite_url: str, captured: CapturedTelemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """No span, metric, log, tape, or row that is shown has it; every attempt and a thread do."""

    async def fail_first(report: Reporter) -> dict[str, object]:
        if report.attempt == 1:
            raise ValueError("again")
        return await see(report)

    telemetry = tell(captured, baggage="on")
    token = context.attach(baggage.set_baggage("tenant", SECRET))
    try:
        with caplog.at_level(logging.DEBUG):
            async with TaskManager(sqlite_url, telemetry=telemetry, retry_delay=0.0) as manager:
                tasks = [
                    await manager.submit("x", fail_first, retries=1),
                    await manager.submit("x", see_in_thread),
                ]
                results = [await task.result(30) for task in tasks]
                rows = [await task.status() for task in tasks]
    finally:
        context.detach(token)
    metrics = {name: metric.to_json() for name, metric in captured.metrics().items()}
    told = [span.to_json() for span in captured.spans()]

    assert [result["seen"] for result in results] == [{"tenant": SECRET}] * 2
    assert SECRET not in f"{told} {metrics} {caplog.text} {rows} {list(map(task_shape, rows))}"
    for row in rows:
        shown = task_shape(row)["traceparent"]
        assert row.traceparent is not None
        assert row.traceparent.startswith(f"{shown} ")
        assert len(shown) == len("00--01-") + 48


async def test_it_needs_no_tracer(sqlite_url: str) -> None:
    """Without any telemetry it goes to the runner, and as ``BAGGAGE`` to a command."""
    token = context.attach(baggage.set_baggage("tenant", "acme corp"))
    try:
        async with TaskManager(sqlite_url, telemetry=Telemetry(baggage="on")) as manager:
            seen = await manager.submit("see", see)
            result = await seen.result(30)
            shell = await manager.submit("shell", ShellCommand("echo $BAGGAGE"))
            await shell.result(30)
            row = await shell.status()
            lines = [e.body["line"] for e in (await shell.tape()).events if e.type == "log"]
    finally:
        context.detach(token)

    assert result == {"seen": {"tenant": "acme corp"}, "header": "tenant=acme+corp"}
    assert lines == ["tenant=acme+corp"]
    assert task_shape(row)["traceparent"] is None
