"""A run's two transactions, insisted on: its claim and its ``final``.

Both go on through a cancel from outside, which only our own flag may turn into an outcome, and
through a store that is away for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from tapescope.clock import Backoff
from tapescope.errors import EventFateUnknown, EventTooLarge, NotJson, StoreUnavailable
from tapescope.model.leases import GivenUp
from tapescope.model.tape import DropReason
from tapescope.model.tasks import Attempt, Claim, Task, TaskStatus

if TYPE_CHECKING:
    from tapescope.model.answers import Finished
    from tapescope.run.outcome import Verdict
    from tapescope.store.port import TaskStore

__all__ = ["claim_task", "forget_cancels", "write_final", "write_release", "write_retry"]

T = TypeVar("T")
V = TypeVar("V", "Verdict", None)


async def claim_task(
    store: TaskStore, task: Task, owner: str, lease: float, unwanted: Callable[[], bool]
) -> tuple[Claim | None, bool]:
    """Claim a pending task; says, too, whether a cancel from outside came meanwhile.

    A task that is pending and not due yet is tried again until it is. While the store is away this
    tries again for as long as a lease (in seconds) would last, or until the claim is ``unwanted``,
    and then raises the store's error.
    """
    clock = store.clock
    deadline = clock.monotonic() + lease
    backoff: Backoff | None = None
    disturbed = False
    while True:
        try:
            if backoff is not None:
                await backoff.wait(max(0.0, deadline - clock.monotonic()))
            claim = await store.claim_if_pending(task, owner, lease)
            if claim is None:
                row = await store.get(task.task_id)
                claim = _find_claim(row, task, owner)
                if claim is None and (row.status, row.attempt) == (task.status, task.attempt):
                    backoff = backoff or Backoff()  # not due yet, by the store's clock
                    deadline = clock.monotonic() + lease
                    continue
        except asyncio.CancelledError:
            forget_cancels()
            disturbed = True
        except (StoreUnavailable, EventFateUnknown):
            if unwanted() or clock.monotonic() >= deadline:
                raise
            backoff = backoff or Backoff()
        else:
            return claim, disturbed


def _find_claim(row: Task, task: Task, owner: str) -> Claim | None:
    """The claim whose answer was lost, if it won: the row says so, as no owner's name is reused."""
    ours = (TaskStatus.RUNNING, owner, task.attempt + 1)
    if (row.status, row.owner, row.attempt) != ours:
        return None
    return Claim(row, Attempt(row.task_id, row.attempt, owner))


async def write_final(
    store: TaskStore, attempt: Attempt, verdict: Verdict, deadline: Callable[[], float]
) -> tuple[Finished, Verdict]:
    """Write the ``final`` (invariant I2); gives the verdict that was written in the end.

    It is the same call each time, which the store answers as the first time. One that a tape cannot
    hold is reduced. Raises the store's error once ``deadline`` (monotonic seconds) has passed.
    """

    def write(verdict: Verdict) -> Awaitable[Finished]:
        return store.finish_if_running(attempt, verdict.final)

    finished, verdict, _ = await _insist(store, write, verdict, deadline)
    return finished, verdict


async def write_retry(
    store: TaskStore,
    attempt: Attempt,
    verdict: Verdict,
    run_at: int,
    deadline: Callable[[], float],
) -> tuple[GivenUp, Verdict]:
    """Give the task up until ``run_at`` (microseconds since the epoch), as insistently.

    One whose answer was lost is looked for: the row is pending then, as this attempt left it.
    """

    def write(verdict: Verdict) -> Awaitable[GivenUp]:
        assert verdict.final.error is not None
        return store.retry_later(attempt, verdict.final.error, run_at)

    given, verdict, doubtful = await _insist(store, write, verdict, deadline)
    return (await _find_given_up(store, attempt, given) if doubtful else given), verdict


async def write_release(
    store: TaskStore, attempt: Attempt, why: str, deadline: Callable[[], float]
) -> GivenUp:
    """Give the task back for another worker, as insistently; ``why`` is for people."""

    def write(_: None) -> Awaitable[GivenUp]:
        return store.release(attempt, why)

    given, _, doubtful = await _insist(store, write, None, deadline)
    return await _find_given_up(store, attempt, given) if doubtful else given


async def _find_given_up(store: TaskStore, attempt: Attempt, given: GivenUp) -> GivenUp:
    """Whether an earlier try, whose answer was lost, was what made the attempt an old one."""
    if given.dropped is not DropReason.STALE_ATTEMPT:
        return given
    row = await store.get(attempt.task_id)
    if (row.status, row.attempt) == (TaskStatus.PENDING, attempt.number):
        return GivenUp(None, None, None, given.last_seq)
    return given


async def _insist(
    store: TaskStore,
    write: Callable[[V], Awaitable[T]],
    verdict: V,
    deadline: Callable[[], float],
) -> tuple[T, V, bool]:
    """The answer, the verdict that was written, and whether an earlier try may have been it."""
    clock = store.clock
    backoff: Backoff | None = None
    reduced = doubtful = False
    while True:
        try:
            if backoff is not None:
                await backoff.wait(max(0.0, deadline() - clock.monotonic()))
            return await write(verdict), verdict, doubtful
        except asyncio.CancelledError:
            forget_cancels()
            doubtful = True
        except (NotJson, EventTooLarge) as refusal:
            if reduced or verdict is None:
                raise
            verdict, reduced = verdict.reduce(refusal), True
        except (StoreUnavailable, EventFateUnknown) as error:
            if clock.monotonic() >= deadline():
                raise
            backoff = backoff or Backoff()
            doubtful = doubtful or isinstance(error, EventFateUnknown)


def forget_cancels() -> None:
    """Take back the cancels that the current task was sent: what it awaits from now on is ours."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
