"""Where an engine brings tasks to a manager: they are claimed by their ids, and run in its pool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from tapescope.engine import Again, Answer, Desk, Ended, Held, HeldReason, Unknown
from tapescope.errors import StoreConfigError, StoreUnavailable, TapescopeError, UnknownTask
from tapescope.manager.lost_tasks import rescue_lost
from tapescope.model.tasks import CancelReason, Task, TaskStatus
from tapescope.model.telemetry import BroughtResult
from tapescope.shielded import SharedCall
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.manager.pool import RunPool
    from tapescope.manager.worker import Worker
    from tapescope.run import Completion, Runner

__all__ = ["ManagerDesk"]

_log = Logger("tapescope")

_LOOKS: Final = 10
"""For a free slot, a moment apart, before a task is held for the want of one."""
_MOMENT: Final = 0.02
_FULL: Final = 1.0
"""Seconds until a task is brought again for which no slot was free."""
_STOPPED: Final = 10.0
"""Seconds until a task is brought again whose op is paused, or whose worker drains."""
_STORE_AWAY: Final = 2.0
_SHORTEST: Final = 0.05
"""Seconds: what is due at once is not brought at once again, for it may be locked just now."""
_PAUSES_FOR: Final = 1.0
"""Seconds for which the list of paused ops is used before it is read again."""
_PAUSES: Final = 1_000
_RESULTS: Final = {
    Ended: BroughtResult.ENDED,
    Again: BroughtResult.AGAIN,
    Held: BroughtResult.HELD,
    Unknown: BroughtResult.UNKNOWN,
}


class ManagerDesk(Desk):
    """The desk of one manager. The lease decides who has a task, whoever brings it."""

    def __init__(
        self,
        pool: RunPool,
        worker: Worker,
        max_running: int,
        store_id: str,
        engine: str,
    ) -> None:
        self._pool, self._worker = pool, worker
        self._max_running = max_running
        self._store_id, self._engine = store_id, engine
        self._rescuing = asyncio.Lock()
        self._rescues = 0
        """Looks for what lost owners have, so far."""
        self._pauses: frozenset[str] = frozenset()
        self._pauses_at: float | None = None
        """When the read of the list began that is used."""
        self._pauses_read = SharedCall("tapescope-read-pauses")

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def ops(self) -> Mapping[str, int]:
        return {
            name: self._max_running if op.max_running is None else op.max_running
            for name, op in self._worker.find_ops().items()
        }

    async def attempt(self, task_id: str) -> Answer:
        op: str | None = None
        answer: Answer
        try:
            task = await self._pool.store.get(task_id)
            op = task.op
            answer = await self._attempt(task)
        except UnknownTask:
            answer = Unknown(f"the store has no task {task_id}")
        except (StoreUnavailable, StoreConfigError):
            answer = Held(_STORE_AWAY, HeldReason.STORE)
        except TapescopeError as error:
            _log.warning("A task that %s brought cannot be run: %s", self._engine, error)
            answer = Held(_STOPPED, HeldReason.STORE)
        except Exception as error:  # noqa: BLE001  # whatever it is; a lease that it left ends
            text = "A task that %s brought met a defect: %s"
            _log.error(text, self._engine, type(error).__name__, error=error)
            answer = Held(_STOPPED, HeldReason.DEFECT)
        held = answer.reason.value if isinstance(answer, Held) else None
        result = _RESULTS[type(answer)].value
        self._pool.store.telemetry.engines.brought(self._engine, op, result, held)
        return answer

    async def _attempt(self, task: Task) -> Answer:
        store, task_id = self._pool.store, task.task_id
        if task.status is TaskStatus.RUNNING:
            if (completion := self._find_own(task)) is not None:
                await completion.wait()
                return self._tell(await store.get(task_id))
            await self._rescue(task)
            task = await store.get(task_id)
        if task.status is not TaskStatus.PENDING:
            return self._tell(task)
        if (wait := self._until(task.run_us)) > 0:
            return Held(wait, HeldReason.NOT_DUE)
        op = self._worker.find_ops().get(task.op)
        if op is None:
            return Unknown(f"this worker does not take the op {task.op!r}")
        if self._worker.drain is not None:
            return Held(_STOPPED, HeldReason.DRAINING)
        if task.op in await self._read_pauses():
            return Held(_STOPPED, HeldReason.PAUSED)
        if not await self._reserve(task.op, op.max_running):
            return Held(_FULL, HeldReason.NO_SLOT)
        completion = await self._begin(task, op.runner)
        if completion is not None:  # else another one was faster, or it has ended
            await completion.wait()
        return self._tell(await store.get(task_id))

    async def _begin(self, task: Task, runner: Runner) -> Completion | None:
        """Claim a task for the reserved slot, and start it; ``None`` where it is not to be had."""
        pool = self._pool
        completion: Completion | None = None
        try:
            with pool.coming([task.op], 1):
                claim = await pool.store.claim_if_pending(task, pool.owner, pool.lease)
            if claim is not None:
                completion = pool.adopt(claim, runner)
        finally:
            if completion is None:
                pool.give_back(1)
        return completion

    async def _reserve(self, op: str, limit: int | None) -> bool:
        """Reserve a slot; says whether one was free.

        While the worker looks for tasks without an engine it has all free slots, for a moment, and
        those of the op.
        """
        pool = self._pool
        for _ in range(_LOOKS):
            if limit is not None and pool.running_of(op) >= limit:
                return False
            if (limit is None or pool.taken_of(op) < limit) and pool.reserve(1):
                return True
            await asyncio.sleep(_MOMENT)
        return False

    def _find_own(self, task: Task) -> Completion | None:
        if task.owner != self._pool.owner:
            return None
        return self._pool.find_attempt(task.task_id, task.attempt)

    def _tell(self, task: Task) -> Answer:
        """What the row says now."""
        if task.status.terminal:
            return Ended(task)
        if task.status is TaskStatus.PENDING:
            return Again(max(_SHORTEST, self._until(task.run_us)), task)
        until = task.lease_expires_us
        left = _FULL if until is None else self._until(until)
        return Held(max(_FULL, left), HeldReason.LEASE)

    def _until(self, us: int) -> float:
        return (us - self._pool.store.due_clock.now()) / 1e6

    async def _rescue(self, task: Task) -> None:
        """Take what lost owners have, where this task may be of one.

        After a worker's death all that it had is brought at once: one look is enough for all.
        """
        until = task.lease_expires_us
        asked = self._rescues
        async with self._rescuing:
            if self._rescues != asked and (until is None or self._until(until) > 0):
                return  # somebody looked while this one waited, and no lease was over since
            self._rescues += 1
            await rescue_lost(self._pool.store)

    async def _read_pauses(self) -> frozenset[str]:
        """The paused ops: one read for all who ask at once. Raises what it raises, to each."""
        now = self._pool.store.clock.monotonic()
        if self._pauses_at is None or now - self._pauses_at > _PAUSES_FOR:
            await self._pauses_read.join(partial(self._look_for_pauses, now))
        return self._pauses

    async def _look_for_pauses(self, now: float) -> None:
        page = await self._pool.store.ops.list_paused(limit=_PAUSES)
        self._pauses = frozenset(pause.op for pause in page.pauses)
        self._pauses_at = now

    async def cancel(self, task_id: str, message: str) -> None:
        answer = await self._pool.store.request_cancel(
            task_id, CancelReason.USER, message, self._engine
        )
        self._pool.note_cancel(task_id, answer)

    def release(self, task_id: str, why: str) -> None:
        self._pool.release(task_id, why)

    def find_place(self, task_id: str) -> tuple[int, int] | None:
        return self._pool.find_place(task_id)
