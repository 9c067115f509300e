"""Tasks that end badly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from tapescope.drills.scene import Scene
from tapescope.errors import TaskCancelled, TaskFailed
from tapescope.manager.submission import Submission
from tapescope.run.reporter import Reporter

__all__ = ["cancel_many", "cancel_slowly", "fail_many", "stick"]

_CANCELLED: Final = 30
_FAILED: Final = 30
_SLOW: Final = 6
_SLOW_GRACE: Final = 12.0
"""Over the alert's ten seconds, which are the default ``cancel_grace``."""
_OVERDUE: Final = 3
"""Hours, over the alert's two hours."""


async def _wait(report: Reporter) -> None:
    await asyncio.Event().wait()


async def _fail(report: Reporter) -> None:
    raise ConnectionError("a drill: the other side is away")


@asynccontextmanager
async def cancel_many(scene: Scene) -> AsyncGenerator[str]:
    """Many tasks, all of them cancelled."""
    async with scene.manage(max_running=_CANCELLED) as manager:
        tasks = await manager.submit_many([Submission(scene.op, _wait)] * _CANCELLED)
        await asyncio.gather(*(task.cancel(f"{scene.op}: all at once") for task in tasks))
        for task in tasks:
            with suppress(TaskCancelled):  # as it must
                await task.result()
        yield f"{_CANCELLED} tasks were cancelled at once"


@asynccontextmanager
async def fail_many(scene: Scene) -> AsyncGenerator[str]:
    """Many tasks, all of them failed."""
    async with scene.manage() as manager:
        for task in await manager.submit_many([Submission(scene.op, _fail)] * _FAILED):
            with suppress(TaskFailed):  # as it must
                await task.result()
        yield f"{_FAILED} tasks failed with builtins.ConnectionError"


@asynccontextmanager
async def cancel_slowly(scene: Scene) -> AsyncGenerator[str]:
    """Runners that ignore their cancel: fenced after the grace, they go on until the drill ends."""
    over, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def ignore(report: Reporter) -> None:
        begun.release()
        while not over.is_set():
            with suppress(asyncio.CancelledError):  # that is the fault
                await over.wait()

    async with scene.manage(max_running=_SLOW, cancel_grace=_SLOW_GRACE) as manager:
        try:
            tasks = await manager.submit_many([Submission(scene.op, ignore)] * _SLOW)
            for _ in tasks:
                await begun.acquire()
            await asyncio.gather(*(task.cancel(f"{scene.op}: stop") for task in tasks))
            for task in tasks:
                with suppress(TaskCancelled):  # as it must
                    await task.result()
            yield (
                f"{_SLOW} cancels took {_SLOW_GRACE:g} s each, and their runners go on as zombies"
            )
        finally:
            over.set()


@asynccontextmanager
async def stick(scene: Scene) -> AsyncGenerator[str]:
    """A task that was due hours ago, runs, and does not end."""
    over, begun = asyncio.Event(), asyncio.Event()

    async def linger(report: Reporter) -> None:
        await report.log("info", "a drill: this task does not end by itself")
        begun.set()
        await over.wait()

    due = datetime.now(UTC) - timedelta(hours=_OVERDUE)
    async with scene.manage() as manager:
        task = await manager.submit(scene.op, linger, run_at=due)
        try:
            await begun.wait()
            yield f"task {task.task_id} was due {_OVERDUE} h ago, runs, and does not end"
        finally:
            over.set()
        await task.result()
