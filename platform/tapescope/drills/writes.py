"""Writes that must be refused: after the ``final``, by a zombie, and a second ``final``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from tapescope.drills.scene import Scene
from tapescope.errors import EventDropped, TapescopeError, TaskCancelled
from tapescope.manager.submission import Submission
from tapescope.model.tape import LOG, NewEvent
from tapescope.model.tasks import ErrorInfo, FinalEvent
from tapescope.run.reporter import Reporter

__all__ = ["end_twice", "report_late", "write_as_zombie"]

_RUNNERS: Final = 10
"""Fewer cancels than make a spike, for that is another alert."""
_LATE: Final = 20
"""Events that each of them reports too late."""
_GRACE: Final = 0.1
_LEASE: Final = 0.5
"""Seconds after which the zombie's task is taken from it."""
_HEARTBEAT: Final = 0.2
_TWICE: Final = 3


class _Latecomers:
    """Runners that ignore their cancel, and report when their tasks have ended."""

    def __init__(self, count: int) -> None:
        self._to_begin = self._to_report = count
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        """To be set when the tasks have ended."""
        self.reported = asyncio.Event()
        self.dropped = 0

    async def run(self, report: Reporter) -> None:
        self._to_begin -= 1
        if not self._to_begin:
            self.begun.set()
        while not self.ended.is_set():
            with suppress(asyncio.CancelledError):  # that is the fault
                await self.ended.wait()
        for n in range(_LATE):
            try:
                await report.log("info", f"late report {n + 1} of {_LATE}")
            except EventDropped:
                self.dropped += 1
        self._to_report -= 1
        if not self._to_report:
            self.reported.set()


@asynccontextmanager
async def report_late(scene: Scene) -> AsyncGenerator[str]:
    """Runners that ignore their cancel, are fenced, and go on reporting."""
    runners = _Latecomers(_RUNNERS)
    async with scene.manage(max_running=_RUNNERS, cancel_grace=_GRACE) as manager:
        try:
            tasks = await manager.submit_many([Submission(scene.op, runners.run)] * _RUNNERS)
            await runners.begun.wait()
            await asyncio.gather(*(task.cancel(f"{scene.op}: no longer needed") for task in tasks))
            for task in tasks:
                with suppress(TaskCancelled):  # as it must
                    await task.result()
        finally:
            runners.ended.set()
        await runners.reported.wait()
        yield (
            f"{_RUNNERS} runners did not heed their cancel; {runners.dropped} of their events came "
            "after the final: dropped, reason after_terminal"
        )


@asynccontextmanager
async def write_as_zombie(scene: Scene) -> AsyncGenerator[str]:
    """An owner that is silent past its lease, and writes on when another has its task."""
    zombie = await scene.claim(lease=_LEASE, retries=1)
    taken, over = asyncio.Event(), asyncio.Event()
    manager = scene.manage(lease=5 * _HEARTBEAT, heartbeat=_HEARTBEAT, retry_delay=0.0)

    async def go_on(report: Reporter) -> None:
        taken.set()
        await over.wait()

    manager.op(scene.op, retries=1)(go_on)
    async with manager:
        try:
            await taken.wait()
            late = [NewEvent(LOG, {"message": "the zombie goes on"})] * _LATE
            appended = await scene.store.append(zombie, late)
        finally:
            over.set()
        await manager.handle(zombie.task_id).result()
        refused = "all" if appended.dropped else "none"
        yield (
            f"attempt 1 was silent past its lease and attempt 2 took its task; then attempt 1 "
            f"wrote {_LATE} events, {refused} of them dropped, reason stale_attempt"
        )


@asynccontextmanager
async def end_twice(scene: Scene) -> AsyncGenerator[str]:
    """Tasks that succeeded, and are then said to have failed."""
    for _ in range(_TWICE):
        attempt = await scene.claim()
        await scene.store.finish_if_running(attempt, FinalEvent.succeeded())
        failed = FinalEvent.failed(ErrorInfo("drill", "a second end"))
        with suppress(TapescopeError):  # refused: which error says so is not the point
            await scene.store.finish_if_running(attempt, failed)
    yield f"{_TWICE} tasks that succeeded were ended once more, as failed: reason duplicate_final"
