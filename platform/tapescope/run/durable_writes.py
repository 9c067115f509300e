"""The writes that a run insists on: its claim, and the one that ends its attempt.

They go on through a cancel from outside, for only the run's own stop reason may become an outcome,
and through a store that is away for a while. What waits for its owner is claimed for as long as the
owner wants it; where the store refuses the claim, the owner lets it go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from tapescope.clock import Backoff
from tapescope.errors import (
    EventFateUnknown,
    EventTooLarge,
    NotJson,
    StoreUnavailable,
    TapescopeError,
)
from tapescope.model.leases import GivenUp
from tapescope.model.tasks import Attempt, Claim, Task, TaskStatus
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.answers import Finished
    from tapescope.run.outcome import Verdict
    from tapescope.store.port import TaskStore

__all__ = ["claim_task", "forget_cancels", "let_go", "write_final", "write_release", "write_retry"]

_log = Logger("tapescope")

T = TypeVar("T")
V = TypeVar("V", "Verdict", None)


async def claim_task(
    store: TaskStore, task: Task, owner: str, lease: float, unwanted: Callable[[], bool]
) -> tuple[Claim | None, bool]:
    """Claim a pending task; the answer says, too, whether a cancel from outside came meanwhile.

    A task that is pending and not due yet is tried again until it is due. While the store is away,
    the claim is tried again until it is ``unwanted``, however long that is: nobody else may claim
    the task. Then the store's error is raised. ``lease`` is in seconds.
    """
    backoff: Backoff | None = None
    cancelled = False
    while True:
        try:
            if backoff is not None:
                await backoff.wait()
            claim = await store.claim_if_pending(task, owner, lease)
            if claim is None:
                row = await store.get(task.task_id)
                claim = _find_claim(row, task, owner)
                if claim is None and (row.status, row.attempt) == (task.status, task.attempt):
                    backoff = backoff or Backoff()  # not due yet, by the store's clock
                    continue
        except asyncio.CancelledError:
            forget_cancels()
            cancelled = True
        except (StoreUnavailable, EventFateUnknown):
            if unwanted():
                raise
            backoff = backoff or Backoff()
        else:
            return claim, cancelled


async def let_go(store: TaskStore, task: Task, owner: str) -> bool:
    """End a pending task that ``owner`` alone could run, and cannot; gives whether it has ended.

    It ends as every lost one does, by a rescue: this one, or that of another rescuer, which holds
    the row meanwhile. An op that workers have registered is left to them. Where the store refuses
    this as well, the task waits for the rescue that follows its owner's death, or its lease.
    """
    clock, leases = store.clock, store.leases
    deadline = clock.monotonic() + store.patience
    backoff = Backoff()
    while True:
        try:
            await leases.let_go(task.task_id, task.attempt, owner)
            ops = await store.ops.read()
            await leases.rescue_expired(ops=ops)
            if (await store.get(task.task_id)).status.terminal:
                return True
            if task.op in ops or clock.monotonic() >= deadline:
                return False
            await backoff.wait()
        except asyncio.CancelledError:
            forget_cancels()
        except TapescopeError as error:
            text = "Task %s waits for its owner, which cannot run it and could not let it go: %s"
            ids = {"task_id": task.task_id, "op": task.op}  # no run of it has begun
            _log.warning(text, task.task_id, error, extra=ids)
            return False


def _find_claim(row: Task, task: Task, owner: str) -> Claim | None:
    """The claim that won though its answer was lost: an owner's name in the row is never reused."""
    ours = (TaskStatus.RUNNING, owner, task.attempt + 1)
    if (row.status, row.owner, row.attempt) != ours:
        return None
    return Claim(row, Attempt(row.task_id, row.attempt, owner))


def write_final(
    store: TaskStore, attempt: Attempt, verdict: Verdict, deadline: Callable[[], float]
) -> Coroutine[Any, Any, tuple[Finished, Verdict]]:
    """Write the ``final`` (invariant I2); gives the verdict that was written in the end.

    Each try is the same call, which the store answers as it answered the first. A ``final`` that a
    tape cannot hold is reduced. Raises the store's error once ``deadline`` (monotonic seconds) has
    passed.
    """

    def write(verdict: Verdict) -> Awaitable[Finished]:
        assert verdict.final is not None
        return store.finish_if_running(attempt, verdict.final)

    return _insist(store, write, verdict, deadline)


async def write_retry(
    store: TaskStore,
    attempt: Attempt,
    verdict: Verdict,
    run_at: int,
    deadline: Callable[[], float],
    only_here: Task | None,
    why: str,
) -> tuple[GivenUp, Verdict]:
    """Hand the task back until ``run_at`` (microseconds since the epoch), as ``write_final`` tries.

    ``why`` says to people why another attempt follows.
    ``only_here`` is the task where no other process can run it.
    """

    def write(verdict: Verdict) -> Awaitable[GivenUp]:
        error = None if verdict.final is None else verdict.final.error
        assert error is not None
        return store.retry_later(attempt, error, run_at, only_here=only_here, why=why)

    return await _insist(store, write, verdict, deadline)


async def write_release(
    store: TaskStore, attempt: Attempt, message: str, deadline: Callable[[], float]
) -> GivenUp:
    """Hand the task back for another worker, as ``write_retry`` does; ``message`` is for people."""

    def write(_: None) -> Awaitable[GivenUp]:
        return store.release(attempt, message)

    answer, _ = await _insist(store, write, None, deadline)
    return answer


async def _insist(
    store: TaskStore,
    write: Callable[[V], Awaitable[T]],
    verdict: V,
    deadline: Callable[[], float],
) -> tuple[T, V]:
    """The answer, and the verdict that was written."""
    clock = store.clock
    backoff: Backoff | None = None
    reduced = False
    while True:
        try:
            if backoff is not None:
                await backoff.wait(max(0.0, deadline() - clock.monotonic()))
            return await write(verdict), verdict
        except asyncio.CancelledError:
            forget_cancels()
        except (NotJson, EventTooLarge) as refusal:
            if reduced or verdict is None:
                raise
            verdict, reduced = verdict.reduce(refusal), True
        except (StoreUnavailable, EventFateUnknown):
            if clock.monotonic() >= deadline():
                raise
            backoff = backoff or Backoff()


def forget_cancels() -> None:
    """Take back the cancels of the current asyncio task: what it awaits from now on must go on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
