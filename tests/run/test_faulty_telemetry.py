"""What becomes of tasks does not depend on what telemetry raises, at whichever of its hooks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tapescope import Reporter, TaskCancelled, TaskFailed, TaskManager
from tapescope_telemetry import Telemetry
from tests.support.faulty_telemetry import Fault, FaultyTelemetry


async def succeed(report: Reporter) -> int:
    """Report, and return."""
    await report.log("info", "x")
    return 1


async def fail(report: Reporter) -> None:
    """Raise."""
    raise ValueError("x")


async def wait(report: Reporter) -> None:
    """Wait for a cancel."""
    await report.log("info", "begun")
    await asyncio.Event().wait()


async def play(url: str, telemetry: Telemetry | None) -> dict[str, Any]:
    """One task of each kind: what its handle, its row and its tape say in the end."""
    async with TaskManager(url, telemetry=telemetry, retry_delay=0.001) as manager:
        manager.op("named", retries=1)(succeed)
        manager.op("named-bad", retries=1)(fail)
        handles = {
            "good": await manager.submit("good", succeed),
            "bad": await manager.submit("bad", fail),
            "bad, tried again": await manager.submit("again", fail, retries=1),
            "by name": await manager.submit("named"),
            "bad by name": await manager.submit("named-bad"),
            "timeout": await manager.submit("late", wait, timeout=0.05),
            "cancelled": await manager.submit("wait", wait),
        }
        async for event in handles["cancelled"].follow():
            if event.type == "log":
                await handles["cancelled"].cancel("enough")
        ends: dict[str, Any] = {}
        for name, handle in handles.items():
            told: Any
            try:
                told = await handle.result(timeout=20)
            except (TaskFailed, TaskCancelled) as error:
                told = type(error).__name__
            row = await handle.status()
            types = [event.type for event in (await handle.tape()).events]
            ends[name] = (told, row.status.value, row.attempt, types)
        return ends


@pytest.mark.parametrize("made", [True, False], ids=["used", "made"])
async def test_outcomes_are_those_without_telemetry(store_url: str, made: bool) -> None:
    """Where each hook raises each time, handles, rows and tapes say what they say without it."""
    faulty = FaultyTelemetry(Fault(), made=made)
    with faulty.installed():
        ends = await play(store_url, faulty.telemetry)
    faulty.close()

    assert faulty.fault.hooks
    assert ends == await play(store_url, None)
