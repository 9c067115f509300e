"""``TaskHandle``: one task, followed and cancelled from outside its run, in any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from tapescope.errors import TaskCancelled, TaskFailed
from tapescope.model.tape import Event, Outcome, QuarantinePage, TapePage
from tapescope.model.tasks import CancelReason, FinalEvent, Task
from tapescope.store.follow import await_final, follow_tape
from tapescope.store.validation import check_seconds

if TYPE_CHECKING:
    from tapescope.manager.pool import RunPool
    from tapescope.run import Completion
    from tapescope.store.flush import CancelAnswer

__all__ = ["TaskHandle"]


class TaskHandle:
    """Reads, follows and cancels one task. Holding one keeps nothing running.

    Made by ``TaskManager``. Its methods raise ``UnknownTask`` when the store has no such task, and
    what a store raises when it cannot be reached.
    """

    __slots__ = ("_completion", "_pool", "task_id")

    def __init__(self, pool: RunPool, task_id: str, completion: Completion | None) -> None:
        self._pool = pool
        self._completion = completion
        self.task_id = task_id

    def __repr__(self) -> str:
        return f"TaskHandle({self.task_id!r})"

    async def status(self) -> Task:
        """The task as its row stands now."""
        return await self._pool.store.get(self.task_id)

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # a limit of this wait
        """Wait for the ``final`` and give what the runner returned, as JSON carries it.

        Raises ``TaskFailed``, ``TaskCancelled`` (ordinary exceptions), ``TimeoutError`` after
        ``timeout`` seconds, and ``StoreUnavailable`` when the end of the run could not be written.
        To stop waiting, or to be cancelled while waiting, does nothing to the task.
        """
        if timeout is None:
            final = await self._await_final()
        else:
            async with asyncio.timeout(check_seconds("timeout", timeout)):
                final = await self._await_final()
        if final.outcome is Outcome.SUCCEEDED:
            return final.result
        if final.outcome is Outcome.CANCELLED and final.cancel is not None:
            raise TaskCancelled(self.task_id, final.cancel.reason, final.cancel.message)
        assert final.error is not None, "a final that does not say succeeded has an error"
        raise TaskFailed(self.task_id, final.error)

    def follow(self, after_seq: int = 0) -> AsyncGenerator[Event, None]:
        """The task's events after ``after_seq``, live, to its ``final``, for ``async for``.

        Every ``seq`` comes once and in order (invariant I9), so a follower that was away goes on
        after the last one it saw. Raises ``TapeGap``, and ``StoreClosed`` if the store is closed
        first.
        """
        return follow_tape(self._pool.store, self.task_id, after_seq)

    async def cancel(
        self, message: str = "", *, reason: CancelReason | str = "user", by: str | None = None
    ) -> CancelAnswer:
        """Request a cancel; returns once the request is recorded, not once the task has ended.

        A pending task ends at once. A running task is stopped by the process that runs it. An ended
        task stays as it is. A second request changes nothing: the first reason stays. ``message``
        is for people; ``reason`` is one of ``user``, ``shutdown``, ``superseded``.
        """
        answer = await self._pool.store.request_cancel(self.task_id, reason, message, by)
        self._pool.note_cancel(self.task_id, answer)
        return answer

    async def tape(self, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of the task's tape."""
        return await self._pool.store.read_tape(self.task_id, after_seq=after_seq, limit=limit)

    async def drops(self, *, after: int = 0, limit: int = 1_000) -> QuarantinePage:
        """A page of the task's late events, kept off its tape, with the counts of all of them."""
        return await self._pool.store.read_quarantine(self.task_id, after=after, limit=limit)

    async def _await_final(self) -> FinalEvent:
        completion = self._completion
        if completion is not None:
            await completion.wait()
            if completion.final is not None:
                return completion.final
            if completion.error is not None:
                raise completion.error
        return await await_final(self._pool.store, self.task_id)
