"""A task's row as each step of its life leaves it, for stores that keep tasks as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "StoredTask",
    "as_ended",
    "as_given_up",
    "as_pending",
    "as_running",
    "find_startable",
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


def find_startable(tasks: Iterable[Task], ops: Iterable[KnownOp]) -> Callable[[Task], bool]:
    """For a store that looks at all its tasks: whether there is a slot for a pending one.

    Each that is asked about in turn, and has one, is taken to keep it: so ask in the order in which
    they are claimed.
    """
    most = {one.op: one.max_concurrent for one in ops}
    held = Counter(
        (task.op, task.concurrency_key) for task in tasks if task.status is TaskStatus.RUNNING
    )

    def take(task: Task) -> bool:
        limit = most.get(task.op)
        if task.concurrency_key is None or limit is None:
            return True
        name = task.op, task.concurrency_key
        if held[name] >= limit:
            return False
        held[name] += 1
        return True

    return take
