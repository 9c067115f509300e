"""Tasks that no worker is brought, for their engine is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from tapescope.drills.scene import Scene
from tapescope.engine import Confirmation, Desk, Engine, EngineReport, Forgotten, Reconciler
from tapescope.errors import EngineUnavailable
from tapescope.model.tasks import NewTask, Task
from tapescope.store.validation import new_task_id

__all__ = ["cut_off"]

_TASKS: Final = 20
_LATE: Final = 1.0
"""Seconds after which they are overdue, where workers wait for a minute."""


class _Away(Engine):
    """An engine that nobody reaches."""

    name = "drill"
    address = "drill://away"

    async def open(self, store_id: str) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def dispatch(self, task: Task) -> None:
        pass

    def forget(self, task_id: str) -> None:
        pass

    def serve(self, desk: Desk) -> NoReturn:
        raise EngineUnavailable(self.address, "it is away")

    async def confirm(self, tasks: Sequence[Task]) -> Confirmation:
        return Confirmation(failed="it is away")

    async def find_forgotten(self) -> Sequence[Forgotten]:
        return ()

    async def report(self, ops: Sequence[str]) -> EngineReport:
        raise EngineUnavailable(self.address, "it is away")


@asynccontextmanager
async def cut_off(scene: Scene) -> AsyncGenerator[str]:
    """Tasks that an engine is to bring, and does not take; a worker's reconciler tells of it."""
    engine, store = _Away(), scene.store
    new = [NewTask(new_task_id(), scene.op, engine=engine.name) for _ in range(_TASKS)]
    reconciler = Reconciler(store, engine, late=_LATE)
    async with scene.manage(work=False) as manager:
        for task in new:
            await store.create(task)
        await asyncio.sleep(_LATE)
        await reconciler.run_once()
        reconciler.start()
        try:
            yield f"{_TASKS} tasks are pending for an engine that is away"
        finally:
            await reconciler.stop()
            await scene.cancel([manager.handle(task.task_id) for task in new])
