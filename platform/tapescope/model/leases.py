"""Leases, and what became of attempts that lost their lease or gave it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tapescope.model.tape import DropReason, Outcome
from tapescope.model.tasks import Attempt, CancelRequest, FinalEvent, Task, TaskStatus

__all__ = ["GivenUp", "HeldLease", "Leases", "RescueResult", "Rescued", "TracedAttempt"]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The answer to a ``retry_later`` or a ``release``."""

    final: FinalEvent | None
    """The ``final`` that was written instead, because a cancel request was recorded."""
    dropped: DropReason | None
    """Why the ``attempt_failed`` or ``attempt_released`` was kept off the tape, when the attempt
    was no longer the task's."""
    outcome: Outcome | None
    """How the task ended; ``None`` while it lives on."""
    last_seq: int
    """The highest ``seq`` on the tape."""

    @property
    def pending(self) -> bool:
        """Whether this call made the task pending again."""
        return self.final is None and self.dropped is None


@dataclass(frozen=True, slots=True)
class Leases:
    """The answer to a heartbeat."""

    extended: int
    """How many running tasks of the owner have a new lease."""
    cancels: tuple[tuple[str, CancelRequest], ...]
    """(task id, request) of each of the owner's running tasks with a recorded cancel request."""
    lost: tuple[Attempt, ...]
    """Of the attempts that the heartbeat named, those that are no longer the owner's: what they
    write is refused."""
    busy: tuple[Attempt, ...]
    """Of the attempts that the heartbeat named, those whose rows another session of the database
    holds locked: they keep the leases that they had."""

    @classmethod
    def sort(cls, held: Sequence[HeldLease], asked: Sequence[Attempt]) -> Leases:
        """Sort the attempts that a heartbeat named by what it found of their leases."""
        ours = {(one.task_id, one.attempt): one.extended for one in held}
        return cls(
            extended=sum(one.extended for one in held),
            cancels=tuple((one.task_id, one.cancel) for one in held if one.cancel is not None),
            lost=tuple(one for one in asked if (one.task_id, one.number) not in ours),
            busy=tuple(one for one in asked if ours.get((one.task_id, one.number)) is False),
        )


class HeldLease(NamedTuple):
    """A running task of the owner that sent the heartbeat."""

    task_id: str
    attempt: int
    cancel: CancelRequest | None
    extended: bool = True
    """Whether its lease was extended; ``False`` when another session of the database holds its row
    locked."""


class RescueResult(StrEnum):
    """What became of a task whose owner was lost: a closed set, a metric label."""

    RETRIED = "retried"
    """The task is pending again, and a retry is spent."""
    FAILED = "failed"
    """The task failed with the code ``worker_lost``."""
    CANCELLED = "cancelled"
    """A cancel request was recorded, so the task ended as cancelled."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A task that was taken from an owner that has ended or lost its lease."""

    task: Task
    """The task as it ran: its attempt, its owner, its cancel request."""
    result: RescueResult
    last_seq: int
    """The highest ``seq`` on the tape: the ``attempt_failed`` or ``final`` of the lost attempt."""


class TracedAttempt(NamedTuple):
    """An attempt whose run span was recorded, and where it is."""

    task_id: str
    op: str
    status: TaskStatus
    """The task's, as its row stands now."""
    attempt: int
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: the run's own span."""
    tags: tuple[str, ...] = ()
    """The task's: who may see tasks of a tag alone is shown attempts by them."""
