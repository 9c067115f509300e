"""Attempts that end without ending their task by themselves: given up, rescued, or still leased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final as Constant
from typing import NamedTuple

from tapescope._json import decode, encode
from tapescope.flush import EventRow
from tapescope.tape import FINAL, DropReason, Outcome
from tapescope.tasks import Attempt, CancelRequest, ErrorInfo, Final, Task

__all__ = [
    "FIRST_FOREIGN_OFFER",
    "WORKER_LOST",
    "GivenUp",
    "HeldLease",
    "Leases",
    "RescueOrder",
    "RescueResult",
    "Rescued",
    "RescuedRow",
    "overrule",
]

FIRST_FOREIGN_OFFER: Constant = 1 << 30
"""Offers from here on are not the run's own: see docs/decisions/0006."""

WORKER_LOST: Constant = "worker_lost"
"""The error code of an attempt whose owner is dead, or lost its lease."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The answer to a ``retry_later`` or a ``release``."""

    final: Final | None
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


class RescueOrder(NamedTuple):
    """What a store is told for a rescue."""

    limit: int
    ops: Sequence[str]
    """The ops that can be run again by who rescues, or by a worker it knows of."""
    dead_owners: Sequence[str]
    ts: int
    retry: str
    """JSON text of the ``attempt_failed``."""
    failed: str
    """JSON text of the ``final`` where no retry is left."""

    def judge(self, task: Task) -> RescueResult:
        """What becomes of a running task whose owner is lost."""
        if task.cancel is not None:
            return RescueResult.CANCELLED
        if task.retries_spent < task.retries and task.op in self.ops:
            return RescueResult.RETRIED
        return RescueResult.FAILED

    def body(self, task: Task, result: RescueResult) -> str:
        """JSON text of the event that says so."""
        if result is RescueResult.RETRIED:
            return self.retry
        if result is RescueResult.FAILED or task.cancel is None:
            return self.failed
        return encode(Final.cancelled(task.cancel).as_json(), "message")


class RescuedRow(NamedTuple):
    """A task that a store rescued."""

    task: Task
    """As it ran: its attempt, its owner, its cancel."""
    result: RescueResult
    last_seq: int
    """The tape's end: the event that says so."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A task that was taken from an owner that is dead or lost its lease."""

    task: Task
    """As it ran: its attempt, its owner, its cancel."""
    result: RescueResult
    last_seq: int
    """The tape's end: the ``attempt_failed`` or ``final`` that says so."""


def overrule(row: EventRow, request: CancelRequest, *, keeps_error: bool) -> EventRow:
    """The ``final`` in the place of an ``attempt_failed``: a cancel on record is never lost."""
    error = ErrorInfo(**decode(row.body)["error"]) if keeps_error else None
    final = Final.cancelled(request, error)
    return row._replace(type=FINAL, body=encode(final.as_json(), "message"))
