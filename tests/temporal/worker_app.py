"""The program of a worker process of these tests: settings come from the environment."""

from __future__ import annotations

import asyncio
import os
import time

from tapescope import Reporter, TaskManager
from tapescope.engine import Engine
from tests.stress.witness import note_run


def _find_engine() -> str | Engine | None:
    url = os.environ.get("TEST_ENGINE")
    if url is None or "TEST_HEARTBEAT" not in os.environ:
        return url
    from tapescope_adapters.temporal import TemporalEngine

    return TemporalEngine(url, heartbeat=float(os.environ["TEST_HEARTBEAT"]))


manager = TaskManager(
    os.environ["TEST_STORE"],
    engine=_find_engine(),
    lease=float(os.environ.get("TEST_LEASE", "3")),
    heartbeat=0.5,
    retry_delay=0.05,
    drain=float(os.environ.get("TEST_DRAIN", "0.2")),
    cancel_grace=2.0,
    audit_every=None,
)


@manager.op("steps")
async def steps(report: Reporter, n: int, pause: float) -> int:
    """Reports each step."""
    for step in range(n):
        await report.progress("step", step, n)
        await asyncio.sleep(pause)
    return n


@manager.op("block")
async def block(report: Reporter, seconds: float) -> str:
    """Keeps the event loop from everything else."""
    time.sleep(seconds)  # noqa: ASYNC251  # that is what is tried
    return "done"


@manager.op("other")
async def other(report: Reporter) -> str:
    """Of another op, on a queue of its own."""
    return "other"


@manager.op("who")
async def who(report: Reporter) -> int:
    """Says which process has run it."""
    return os.getpid()


@manager.op("noted")
async def noted(report: Reporter, steps: int, pause: float) -> int:
    """Notes its run beside the store, in one write, and reports each step."""
    note_run(os.environ["TEST_WITNESS"], report.task_id, report.attempt)
    for step in range(steps):
        await report.progress("step", step, steps)
        await asyncio.sleep(pause)
    return steps
