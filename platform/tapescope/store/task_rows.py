"""A task's row as each step of its life leaves it, for stores that keep tasks as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tapescope.codec import decode
from tapescope.model.tape import DropReason, Outcome
from tapescope.model.tasks import CancelReason, CancelRequest, Task, TaskStatus
from tapescope.model.times import LAST_TIME
from tapescope.store.damage import read_tags
from tapescope.store.flush import CancelRow, CancelState, ClaimAnswer, CreateRow, EventRow

if TYPE_CHECKING:
    from tapescope.model.ops import KnownOp

__all__ = [
    "Starts",
    "StoredTask",
    "as_ended",
    "as_given_up",
    "as_pending",
    "as_running",
    "plan_cancel",
]


class StoredTask(NamedTuple):
    """All that a store holds of one task."""

    task: Task
    tape: Sequence[EventRow]
    kept: Mapping[DropReason, int]
    """By reason how many of its dropped events the quarantine holds."""
    counted: Mapping[DropReason, int]
    """By reason how many dropped events were counted."""


def as_pending(row: CreateRow, params: Mapping[str, Any], now: int, key: int) -> Task:
    """The task as its creation at ``now`` left it; ``params`` are the row's, decoded."""
    run_us = now if row.run_at is None else row.run_at
    return Task(
        task_id=row.task_id,
        op=row.op,
        params=params,
        status=TaskStatus.PENDING,
        attempt=0,
        owner=row.owner,
        created_us=now,
        run_us=run_us,
        claimed_us=None,
        finished_us=None,
        lease_expires_us=None if row.lease is None else min(run_us + row.lease, LAST_TIME),
        timeout=row.timeout,
        retries=row.retries,
        idempotency_key=row.idempotency_key,
        traceparent=row.traceparent,
        cancel=None,
        error_code=None,
        priority=row.priority,
        tags=read_tags(row.tags),
        parent_id=row.parent_id,
        cancel_with_parent=row.cancel_with_parent,
        unique_key=row.unique_key,
        concurrency_key=row.concurrency_key,
        parked=row.concurrency_key is not None,
        engine=row.engine or None,
        queue=row.queue,
        expires_in=None if row.expires_in is None else row.expires_in / 1e6,
        key=key,
    )


def as_running(task: Task, owner: str, won: ClaimAnswer) -> Task:
    """The task as its claim left it."""
    # Not dataclasses.replace, which takes twice as long: there is one of these for every run.
    return Task(
        task_id=task.task_id,
        op=task.op,
        params=task.params,
        status=TaskStatus.RUNNING,
        attempt=won.attempt,
        owner=owner,
        created_us=task.created_us,
        run_us=task.run_us,
        claimed_us=won.claimed_us,
        finished_us=None,
        lease_expires_us=won.lease_expires_us,
        timeout=task.timeout,
        retries=task.retries,
        retries_spent=task.retries_spent,
        idempotency_key=task.idempotency_key,
        traceparent=task.traceparent,
        cancel=task.cancel,
        error_code=task.error_code,
        priority=task.priority,
        tags=task.tags,
        parent_id=task.parent_id,
        cancel_with_parent=task.cancel_with_parent,
        unique_key=task.unique_key,
        concurrency_key=task.concurrency_key,
        engine=task.engine,
        queue=task.queue,
        expires_in=task.expires_in,
        key=task.key,
    )


def as_given_up(
    task: Task, run_at: int, spends: int, owner: str | None = None, lease: int | None = None
) -> Task:
    """The task as its attempt left it that was given up, or lost: pending until ``run_at``.

    ``spends`` is the number of retries that it costs; ``owner`` and ``lease`` are those of a
    ``GiveUpRow``.
    """
    return replace(
        task,
        status=TaskStatus.PENDING,
        owner=owner,
        claimed_us=None,
        lease_expires_us=None if lease is None else run_at + lease,
        run_us=run_at,
        retries_spent=task.retries_spent + spends,
        parked=task.concurrency_key is not None,
    )


def plan_cancel(task: Task, row: CancelRow, now: int) -> tuple[CancelState, Task]:
    """What a cancel request meets at ``now``, and the task with the request on record.

    ``CANCELLED``: the row's body is now to go on the tape, as the ``final`` that ends the task.
    """
    if task.status.terminal:
        return CancelState.TERMINAL, task
    if row.reason == CancelReason.EXPIRED and not task.has_expired(now):
        return CancelState.NOT_EXPIRED, task
    pending = task.status is TaskStatus.PENDING
    if task.cancel is not None and not pending:
        return CancelState.ALREADY_RECORDED, task
    request = CancelRequest(
        CancelReason(row.reason), row.message, row.by, row.ts, traceparent=row.traceparent
    )
    state = CancelState.CANCELLED if pending else CancelState.RECORDED
    return state, replace(task, cancel=request)


def as_ended(task: Task, final: EventRow, now: int) -> Task:
    """The task as its ``final`` left it: both say the same outcome (invariant I2)."""
    said = decode(final.body)
    outcome = Outcome(said["outcome"])
    code = str(said["error"]["code"]) if outcome is Outcome.FAILED else None
    return replace(
        task,
        status=TaskStatus(outcome.value),
        finished_us=now,
        lease_expires_us=None,
        error_code=code,
        parked=False,
    )


class Starts:
    """For a store that looks at all its tasks: which pending ones may begin now, and when others
    may, by the slots and the rate of their op (docs/decisions/0103 and 0107)."""

    begun: dict[tuple[str, str], list[int]]
    """By op and concurrency key, when the attempts began that count in the window, in microseconds
    since the epoch: for the store to keep, and to give to the next one."""

    def __init__(
        self,
        tasks: Iterable[Task],
        ops: Iterable[KnownOp],
        begun: Mapping[tuple[str, str], Sequence[int]],
        now: int,
    ) -> None:
        self._now = now
        self._ops = {one.op: one for one in ops}
        self._held = Counter(
            (task.op, task.concurrency_key) for task in tasks if task.status is TaskStatus.RUNNING
        )
        self.begun = {}
        for name, times in begun.items():
            if kept := self._keep(name[0], times):
                self.begun[name] = kept
        self._counted = {name: list(times) for name, times in self.begun.items()}

    def _keep(self, op: str, times: Sequence[int]) -> list[int]:
        """Those in the window. One of the time to come, for the clock was set back, counts from
        now on."""
        known = self._ops.get(op)
        if known is None or known.rate_per_us is None:
            return []
        since = self._now - known.rate_per_us
        return sorted(min(at, self._now) for at in times if at > since)

    def find_earliest(self, task: Task) -> int | None:
        """When the pending task may begin, in microseconds since the epoch; ``None``: when a slot
        is free, which is not known."""
        known, key = self._ops.get(task.op), task.concurrency_key
        if known is None or key is None:
            return task.run_us
        name = task.op, key
        if known.max_concurrent is not None and self._held[name] >= known.max_concurrent:
            return None
        if known.rate_times is None or known.rate_per_us is None:
            return task.run_us
        times = self._counted.get(name, [])
        full = len(times) - known.rate_times
        return task.run_us if full < 0 else max(task.run_us, times[full] + known.rate_per_us)

    def take(self, task: Task) -> bool:
        """Whether the pending task may begin now; it is taken to do so, and to keep its slot: so
        ask in the order in which they are claimed."""
        at = self.find_earliest(task)
        if at is None or at > self._now:
            return False
        if task.concurrency_key is not None:
            name = task.op, task.concurrency_key
            self._held[name] += 1
            self._counted.setdefault(name, []).append(self._now)
        return True

    def note(self, task: Task) -> None:
        """A claim begins the task now: the attempt counts where the op has a rate."""
        known = self._ops.get(task.op)
        if task.concurrency_key is not None and known is not None and known.rate_times is not None:
            self.begun.setdefault((task.op, task.concurrency_key), []).append(self._now)
