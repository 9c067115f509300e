"""Leases, and what became of attempts that lost or gave up theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from tapescope.model.tape import DropReason, Outcome
from tapescope.model.tasks import Attempt, CancelRequest, FinalEvent, Task

__all__ = ["WORKER_LOST", "GivenUp", "HeldLease", "Leases", "RescueResult", "Rescued"]

WORKER_LOST: Final = "worker_lost"
"""The error code of an attempt whose owner is dead, or lost its lease."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The answer to a ``retry_later`` or a ``release``."""

    final: FinalEvent | None
    """The ``final`` that was written instead, because a cancel was on record."""
    dropped: DropReason | None
    """Why the ``attempt_failed`` was kept off the tape, when the attempt was no longer the
    task's."""
    outcome: Outcome | None
    """How the task ended; ``None`` while it lives on."""
    last_seq: int
    """The tape's end."""

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
    """(task id, request) of each of them that somebody wants cancelled."""
    lost: tuple[Attempt, ...]
    """The attempts asked about that are no longer the owner's: what they write is refused."""
    busy: tuple[Attempt, ...]
    """The attempts asked about that are the owner's, but whose rows another session of the
    database holds locked: they have the leases that they had."""

    @classmethod
    def sort(cls, held: Sequence[HeldLease], asked: Sequence[Attempt]) -> Leases:
        """What it means for the attempts asked about that these leases were extended."""
        ours = {(one.task_id, one.attempt): one.extended for one in held}
        return cls(
            extended=sum(one.extended for one in held),
            cancels=tuple((one.task_id, one.cancel) for one in held if one.cancel is not None),
            lost=tuple(one for one in asked if (one.task_id, one.number) not in ours),
            busy=tuple(one for one in asked if ours.get((one.task_id, one.number)) is False),
        )


class HeldLease(NamedTuple):
    """A running task that is its owner's."""

    task_id: str
    attempt: int
    cancel: CancelRequest | None
    extended: bool = True
    """Whether its lease was extended; not where another session of the database holds its row."""


class RescueResult(StrEnum):
    """What became of a task whose owner was lost: a closed set, a metric label."""

    RETRIED = "retried"
    """It is pending again, and a retry is spent."""
    FAILED = "failed"
    """It ended with the code ``worker_lost``."""
    CANCELLED = "cancelled"
    """A cancel was on record: it ended as that."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A task that was taken from an owner that is dead or lost its lease."""

    task: Task
    """As it ran: its attempt, its owner, its cancel."""
    result: RescueResult
    last_seq: int
    """The tape's end: the ``attempt_failed`` or ``final`` that says so."""
