"""Tasks that wait: for a worker that is not there, and behind one that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from tapescope.drills.scene import Scene
from tapescope.manager.handle import TaskHandle
from tapescope.manager.submission import Submission
from tapescope.run.reporter import Reporter

__all__ = ["leave_alone", "pile_up"]

_TASKS: Final = 20
_OVERDUE: Final = 3
"""Hours, over the alert's quarter of an hour."""


@asynccontextmanager
async def leave_alone(scene: Scene) -> AsyncGenerator[str]:
    """Tasks of an op that no worker has registered."""
    async with scene.manage(work=False) as manager:
        tasks = await manager.submit_many([Submission(scene.op)] * _TASKS)
        try:
            yield f"{_TASKS} tasks are due, and no worker has registered the op {scene.op}"
        finally:
            await scene.cancel(tasks)


@asynccontextmanager
async def pile_up(scene: Scene) -> AsyncGenerator[str]:
    """Tasks that were due hours ago, and one that holds the only slot."""
    over, begun = asyncio.Event(), asyncio.Event()

    async def linger(report: Reporter) -> None:
        begun.set()
        await over.wait()

    due = datetime.now(UTC) - timedelta(hours=_OVERDUE)
    async with scene.manage(max_running=1) as manager:
        first = await manager.submit(scene.op, linger)
        tasks: Sequence[TaskHandle] = ()
        try:
            await begun.wait()
            submissions = [Submission(scene.op, linger, run_at=due)] * _TASKS
            tasks = await manager.submit_many(submissions)
            yield f"{_TASKS} tasks were due {_OVERDUE} h ago, and wait for the only slot"
        finally:
            await scene.cancel(tasks)
            over.set()
        await first.result()
