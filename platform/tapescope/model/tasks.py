"""Tasks and attempts: the frozen values that go in and out of a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tapescope.model.tape import FINAL, Event, Outcome, moment

__all__ = [
    "Attempt",
    "CancelReason",
    "CancelRequest",
    "Claim",
    "ErrorInfo",
    "FinalEvent",
    "NewTask",
    "Task",
    "TaskPage",
    "TaskStatus",
    "is_op",
]

_OP = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def is_op(text: str) -> bool:
    """Whether ``text`` is well-formed as an op: ``[a-z][a-z0-9_.-]{0,63}``."""
    return _OP.fullmatch(text) is not None


class TaskStatus(StrEnum):
    """Where a task stands. The last three are terminal: the row and its tape never change again."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the task has ended (invariants I2, I4)."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


class CancelReason(StrEnum):
    """Why a task was cancelled: a closed set, so it may be a metric label."""

    USER = "user"
    SHUTDOWN = "shutdown"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create. ``params`` is a JSON object; times are in microseconds since the epoch."""

    task_id: str
    op: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    """Seconds an attempt may run; ``None`` for no limit."""
    retries: int = 0
    idempotency_key: str | None = None
    traceparent: str | None = None
    """W3C trace context of the submit span, which the run span links to."""
    run_at: int | None = None
    """Not before this time; ``None`` for at once."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A cancel as it is on record: the first one stays, later ones change nothing."""

    reason: CancelReason
    message: str
    by: str | None
    at: int
    """When it was recorded, in microseconds since the epoch, by the store's clock."""


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work as its row stands. Times are integer microseconds since the epoch (UTC)."""

    task_id: str
    op: str
    params: Mapping[str, Any]
    status: TaskStatus
    attempt: int
    """How often it was claimed; also the fencing token of every write (invariant I5)."""
    owner: str | None
    created_at: int
    run_at: int
    claimed_at: int | None
    finished_at: int | None
    lease_expires_at: int | None
    timeout: float | None
    retries: int
    idempotency_key: str | None
    traceparent: str | None
    cancel: CancelRequest | None
    error_code: str | None
    """The ``final``'s error code when the task failed."""
    retries_spent: int = 0
    """Retries that failed or lost attempts have used up; a release uses none."""
    key: int = field(default=0, repr=False, compare=False)
    """The store's own short key of the row; means nothing outside that store."""

    @property
    def created(self) -> datetime:
        """``created_at`` as an aware UTC time."""
        return moment(self.created_at)

    @property
    def finished(self) -> datetime | None:
        """``finished_at`` as an aware UTC time, ``None`` while the task lives."""
        return None if self.finished_at is None else moment(self.finished_at)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of tasks, newest first."""

    tasks: tuple[Task, ...]
    next: str | None
    """Pass it as ``before`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task, as every write of that run names it.

    ``number`` is the fencing token: the store refuses the writes of any attempt that is not the
    task's own (invariant I5).
    """

    task_id: str
    number: int
    owner: str
    cursor: object | None = field(default=None, repr=False, compare=False)
    """What the store that claimed it remembers of the attempt's tape; opaque to everyone else."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that was claimed, and the attempt that may write to its tape."""

    task: Task
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What went wrong, as a ``final`` or an ``attempt_failed`` keeps it."""

    code: str
    """The exception's qualified name, or a code of ours: ``timeout``, ``bad_result`` …"""
    message: str = ""
    traceback: str | None = None
    details: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The JSON object that goes on the tape; absent parts are left out."""
        found: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.traceback is not None:
            found["traceback"] = self.traceback
        if self.details is not None:
            found["details"] = dict(self.details)
        return found


@dataclass(frozen=True, slots=True)
class FinalEvent:
    """What a ``final`` event says: the outcome, and the result or what stood in its way."""

    outcome: Outcome
    result: Any = None
    error: ErrorInfo | None = None
    cancel: CancelRequest | None = None

    @classmethod
    def succeeded(cls, result: Any = None) -> FinalEvent:
        """The runner returned ``result``."""
        return cls(Outcome.SUCCEEDED, result=result)

    @classmethod
    def failed(cls, error: ErrorInfo) -> FinalEvent:
        """The task failed for good."""
        return cls(Outcome.FAILED, error=error)

    @classmethod
    def cancelled(cls, cancel: CancelRequest, error: ErrorInfo | None = None) -> FinalEvent:
        """Somebody cancelled it; ``error`` is what its cleanup raised, kept for the record."""
        return cls(Outcome.CANCELLED, cancel=cancel, error=error)

    def as_json(self) -> dict[str, Any]:
        """The body of the ``final`` event."""
        body: dict[str, Any] = {"outcome": self.outcome.value}
        if self.outcome is Outcome.SUCCEEDED:
            body["result"] = self.result
        if self.error is not None:
            body["error"] = self.error.as_json()
        if self.cancel is not None:
            body["cancel"] = {
                "reason": self.cancel.reason.value,
                "message": self.cancel.message,
                "by": self.cancel.by,
                "requested_at": self.cancel.at,
            }
        return body

    @classmethod
    def from_event(cls, event: Event) -> FinalEvent:
        """Read a stored ``final`` back."""
        assert event.type == FINAL, f"a {event.type!r} event is no final"
        body = event.body
        error, cancel = body.get("error"), body.get("cancel")
        return cls(
            Outcome(body["outcome"]),
            result=body.get("result"),
            error=error
            and ErrorInfo(
                error["code"], error["message"], error.get("traceback"), error.get("details")
            ),
            cancel=cancel
            and CancelRequest(
                CancelReason(cancel["reason"]),
                cancel["message"],
                cancel["by"],
                cancel["requested_at"],
            ),
        )
