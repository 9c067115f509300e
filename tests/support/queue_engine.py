"""An engine that is a queue in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tapescope.engine import (
    Again,
    Confirmation,
    Desk,
    Engine,
    EngineReport,
    EngineServer,
    Forgotten,
    Held,
)
from tapescope.model.tasks import Task

__all__ = ["QueueEngine"]


class _Server(EngineServer):
    """Brings what is in the engine's queue, one after the other, each until it has ended."""

    def __init__(self, engine: QueueEngine, desk: Desk) -> None:
        super().__init__("queue")
        self._engine, self.desk = engine, desk
        self._bringing: asyncio.Task[None] | None = None

    def _begin(self) -> None:
        self._bringing = asyncio.get_running_loop().create_task(self._bring())

    async def _bring(self) -> None:
        while True:
            task_id = await self._engine.queue.get()
            answer = await self.desk.attempt(task_id)
            self._engine.answers.append(answer)
            if isinstance(answer, (Again, Held)):
                asyncio.get_running_loop().call_later(
                    min(answer.wait, 0.05), self._engine.queue.put_nowait, task_id
                )

    def stop_taking(self) -> None:
        pass

    async def _end(self) -> None:
        assert self._bringing is not None
        self._bringing.cancel()


class QueueEngine(Engine):
    """As small as an engine can be."""

    name = "queue"
    address = "queue://here"

    def __init__(self) -> None:
        self.queue = asyncio.Queue[str]()
        self.answers: list[object] = []
        self.lossy = False
        """Whether what is dispatched gets lost."""
        self.known: dict[str, str | None] = {}
        """By id what was said when it was cancelled there, if it was."""
        self.refused: set[str] = set()
        """What it does not take."""
        self.forgotten: list[str] = []
        self.server: _Server | None = None

    async def open(self, store_id: str) -> None:
        self.store_id = store_id

    async def aclose(self) -> None:
        pass

    def dispatch(self, task: Task) -> None:
        if not self.lossy and task.task_id not in self.known:
            self.known[task.task_id] = None
            self.queue.put_nowait(task.task_id)

    def forget(self, task_id: str) -> None:
        self.forgotten.append(task_id)

    def serve(self, desk: Desk) -> EngineServer:
        self.server = _Server(self, desk)
        return self.server

    async def confirm(self, tasks: Sequence[Task]) -> Confirmation:
        if self.lossy:
            return Confirmation(failed="it is away")
        taken = [task for task in tasks if task.task_id not in self.refused]
        for task in taken:
            self.dispatch(task)
        said = {task.task_id: self.known[task.task_id] for task in taken}
        cancelled = {task_id: why for task_id, why in said.items() if why is not None}
        failed = "" if len(taken) == len(tasks) else "it does not fit"
        return Confirmation([one for one in said if one not in cancelled], cancelled, failed)

    async def find_forgotten(self) -> Sequence[Forgotten]:
        return [Forgotten(one, why) for one, why in self.known.items() if why is not None]

    async def report(self, ops: Sequence[str]) -> EngineReport:
        return EngineReport(self.address, "1", {}, {})

    @property
    def desk(self) -> Desk:
        """Of the manager that works."""
        assert self.server is not None
        return self.server.desk
