"""The program of a worker process of these tests: settings come from the environment."""

from __future__ import annotations

import asyncio
import os
import time

from tapescope import Reporter, TaskManager

manager = TaskManager(
    os.environ["TEST_STORE"],
    engine=os.environ.get("TEST_ENGINE"),
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
