"""What a drill works with: its op, its store, and managers that are seen on its scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from tapescope.http.metrics import MetricsListener
from tapescope.manager.handle import TaskHandle
from tapescope.manager.identity import name_owner
from tapescope.manager.manager import TaskManager
from tapescope.model.tasks import Attempt, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id

__all__ = ["OP_PREFIX", "Fault", "Scene"]

OP_PREFIX: Final = "drill."
"""How the ops of drills begin; a task of any other op is real work."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault happens."""

    op: str
    url: str
    """Of the store, with its password: never to be shown."""
    store: TaskStore
    listener: MetricsListener

    def manage(self, **settings: Any) -> TaskManager:
        """A manager on the store that leaves nothing running when it is closed, and audits nothing.

        ``settings`` are those of ``TaskManager``.
        """
        manager = TaskManager(self.store, drain=0.0, audit_every=None, **settings)
        self.listener.watch(manager)
        return manager

    async def claim(self, *, lease: float = 60.0, retries: int = 0) -> Attempt:
        """A task of the drill that runs for an owner which never renews its lease.

        Raises what the store raises.
        """
        while True:
            task, _ = await self.store.create(NewTask(new_task_id(), self.op, retries=retries))
            claim = await self.store.claim_if_pending(task, name_owner(), lease)
            if claim is not None:  # else a worker of the same drill was faster
                return claim.attempt

    async def cancel(self, tasks: Sequence[TaskHandle]) -> None:
        """End tasks of the drill that wait still."""
        await asyncio.gather(*(task.cancel(f"{self.op}: it is over") for task in tasks))


Fault = Callable[[Scene], AbstractAsyncContextManager[str]]
"""Entered, the fault has happened, and the text says what did; left, nothing of it goes on."""
