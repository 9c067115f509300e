"""Outages of a store, and what becomes of a manager's runs in one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tapescope import TaskManager, Telemetry
from tapescope.store.flush import Flush
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.memory_stores import FaultyStore

__all__ = ["Outage", "managing", "outcomes"]


class Outage:
    """A hook that fails flushes as long as it is on, or a number of times."""

    def __init__(self, error: type[Exception], times: int = 1_000_000) -> None:
        self.error = error
        self.times = times
        self.on = False
        self.kinds: set[str] = set()
        """What a flush must hold to be hit: ``claims``, ``final``; empty for any."""

    async def __call__(self, flush: Flush) -> None:
        """Fail the flush, if it is one of those."""
        kinds = {"claims"} if flush.claims else set[str]()
        if any(row.type == "final" for row in flush.rows):
            kinds.add("final")
        if self.on and self.times and (not self.kinds or kinds & self.kinds):
            self.times -= 1
            raise self.error("the cable was pulled")


@asynccontextmanager
async def managing(
    store: FaultyStore, **settings: Any
) -> AsyncGenerator[tuple[TaskManager, CapturedTelemetry]]:
    """A manager on the store, with spans of its own."""
    captured = CapturedTelemetry()
    telemetry = Telemetry(
        tracer_provider=captured.tracer_provider, meter_provider=captured.meter_provider
    )
    try:
        async with TaskManager(store, telemetry=telemetry, **settings) as manager:
            yield manager, captured
    finally:
        captured.close()


def outcomes(captured: CapturedTelemetry) -> list[tuple[str, Any]]:
    """Status and outcome of every run span."""
    return [
        (span.status.status_code.name, (span.attributes or {})["tapescope.task.outcome"])
        for span in captured.spans()
        if span.name.startswith("run ")
    ]
