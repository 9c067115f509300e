"""Runners that wait for tasks: warned of where the task waits for a slot that none gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import TapescopeError
from tapescope.model.tasks import Task, TaskStatus
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.run import Run

__all__ = ["NestedWaits"]

_log = Logger("tapescope")

_FIRST_LOOK: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds between two looks at a wait, doubled from the first to the last."""
_WARN_EVERY: Final = 60.0
"""Seconds between two warnings of waits of the same two ops."""
_OF_A_PROCESS: Final = "Raise max_running, or max_lent"
_OF_A_KEY: Final = "Raise max_concurrent, or give the task another concurrency_key"
"""What is to be done, by whose slots there are too few."""


class NestedWaits:
    """The waits of one pool's runners for tasks of its store.

    A runner keeps its slot while it waits, unless it is lent. Where all slots have such runners,
    and the tasks that they wait for need a slot here, nothing goes on. The same goes for the slots
    of a concurrency key, over the whole store.
    """

    def __init__(
        self,
        find_waiting: Callable[[Run, str, Task | None], Task | None],
        read: Callable[[str], Coroutine[Any, Any, Task]],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
    ) -> None:
        """``find_waiting`` gives the task that a run waits for, if it is due and no slot is free
        for it here, or of its concurrency key, while the run keeps its own; it is given the task's
        row where the store was asked for it."""
        self._find_waiting = find_waiting
        self._read = read
        self._spawn = spawn
        self._warned: dict[tuple[str, str], float] = {}

    @contextmanager
    def watching(self, run: Run, task_id: str) -> Generator[None]:
        """Look now and then at a run's wait for a task, while it is in it."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def look_later(seconds: float) -> None:
            nonlocal timer
            timer = loop.call_later(seconds, look, seconds)

        def look(seconds: float) -> None:
            self._spawn(partial(self._look, run, task_id))
            look_later(min(seconds * 2, _LONGEST))

        look_later(_FIRST_LOOK)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _look(self, run: Run, task_id: str) -> None:
        task = self._find_waiting(run, task_id, None)
        if task is None:
            try:
                row = await self._read(task_id)
            except TapescopeError:
                return  # who waits for it is told
            if row.status is not TaskStatus.PENDING:
                return
            task = self._find_waiting(run, task_id, row)
        if task is None:
            return
        ops, now = (run.task.op, task.op), asyncio.get_running_loop().time()
        if now - self._warned.get(ops, -_WARN_EVERY) < _WARN_EVERY:
            return
        self._warned[ops] = now
        _log.warning(
            "The runner of task %s (%s) waits for task %s (%s), which waits for a slot: none is "
            "free, and a runner keeps its own while it waits. If all slots are taken so, nothing "
            "goes on. %s, or wait for the task elsewhere than in a runner.",
            run.task.task_id,
            run.task.op,
            task_id,
            task.op,
            _OF_A_KEY if task.parked else _OF_A_PROCESS,
            extra=run.ids,
        )
