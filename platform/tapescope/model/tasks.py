"""Tasks and attempts: their words, and the frozen values that go in and out of a store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from tapescope.model.frozen import quickly_made
from tapescope.model.tape import FINAL, Event, Outcome
from tapescope.model.times import LAST_TIME, format_time, moment, parse_time
from tapescope.model.words import carry

__all__ = [
    "DEFAULT_QUEUE",
    "MOST_TAGS",
    "PRIORITIES",
    "ActiveState",
    "Assurance",
    "Attempt",
    "AttemptOutcome",
    "CancelReason",
    "CancelRequest",
    "Claim",
    "ErrorInfo",
    "FinalEvent",
    "NewTask",
    "Task",
    "TaskFilter",
    "TaskPage",
    "TaskStatus",
    "is_op",
    "is_queue",
    "is_tag",
]

PRIORITIES: Final = range(-9, 10)
"""Of a task: the higher goes first, and 0 is what most have. They are few, for a claim looks for
each (docs/decisions/0091)."""
DEFAULT_QUEUE: Final = "default"
"""The queue of a task where neither its submit nor its op says another one."""
MOST_TAGS: Final = 10
"""Tags of one task: each costs a row more (docs/decisions/0095)."""
_TAG = re.compile(r"\w[\w.:/@=+-]{0,63}")
_OP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def is_op(text: object) -> bool:
    """Whether ``text`` is well-formed as an op: ``[A-Za-z_][A-Za-z0-9_.-]{0,127}``.

    So is a qualified name of Python, such as ``shop.tasks.Resize``.
    """
    return isinstance(text, str) and _OP.fullmatch(text) is not None


def is_queue(text: object) -> bool:
    """Whether ``text`` is well-formed as the name of a queue: as that of an op is."""
    return is_op(text)


def is_tag(text: object) -> bool:
    """Whether ``text`` is well-formed as a tag: ``\\w[\\w.:/@=+-]{0,63}``.

    So 1 to 64 letters of any script, digits and ``_ . : / @ = + -``, the first a letter, a digit or
    ``_``: no blank and no comma, so that a list of them needs no quotes.
    """
    return isinstance(text, str) and _TAG.fullmatch(text) is not None


class TaskStatus(StrEnum):
    """Where a task stands. The last three are terminal: the row and its tape never change again."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = Outcome.SUCCEEDED.value
    FAILED = Outcome.FAILED.value
    CANCELLED = Outcome.CANCELLED.value

    @property
    def terminal(self) -> bool:
        """Whether the task has ended (invariants I2, I4)."""
        return self in (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED)


class ActiveState(StrEnum):
    """Where a task that has not ended stands in its manager: a closed set, a metric label."""

    PENDING = TaskStatus.PENDING.value
    RUNNING = TaskStatus.RUNNING.value
    CANCELLING = "cancelling"
    """The task runs, and its runner was asked to stop."""


class AttemptOutcome(StrEnum):
    """How an attempt ended, as its run span says it: a closed set.

    An attempt ends as its task does, or in one of the last three ways, and the task lives on.
    """

    SUCCEEDED = Outcome.SUCCEEDED.value
    FAILED = Outcome.FAILED.value
    CANCELLED = Outcome.CANCELLED.value
    RETRIED = "retried"
    """The attempt failed, and another one follows."""
    LOST = "lost"
    """The lease or the store was lost, so another attempt may run the task."""
    RELEASED = "released"
    """The manager was closed and gave the task back, for another manager to run."""


class CancelReason(StrEnum):
    """Why a task was cancelled: a closed set, so it may be a metric label."""

    USER = "user"
    SHUTDOWN = "shutdown"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    """No attempt began within the time that its submit gave it (``NewTask.expires_in``); only a
    store says so, of a task that never ran."""


class Assurance(StrEnum):
    """How it is known who asked for a cancel: a closed set."""

    CLAIMED = "claimed"
    """By the text that the caller gave, and no more. Anybody can give any text."""
    ROLE = "role"
    """PostgreSQL named the role whose session recorded the request; ``by`` is still claimed."""
    TOKEN = "token"
    """A server checked a token, and ``by`` is whom it was made out to. Nothing says so yet."""


@quickly_made
@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create. Times are integer microseconds since the Unix epoch."""

    task_id: str
    op: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """A JSON object: the keyword arguments of the runner."""
    timeout: float | None = None
    """Seconds an attempt may run; ``None`` for no limit."""
    retries: int = 0
    """How many failed or lost attempts are followed by another one."""
    idempotency_key: str | None = None
    """A second task of the same op with this key is not created: the first one is its answer."""
    traceparent: str | None = field(default=None, repr=False)
    """W3C trace context of the submit span, which the run span links to: its ``traceparent``, and
    after a space its ``tracestate`` where it has one. Behind a line feed its baggage, where that is
    carried."""
    run_at: int | None = None
    """The task starts at this time or later; ``None`` for at once."""
    only_by: str | None = None
    """The owner that alone can run it, for its callable is there; ``None``: any worker."""
    priority: int = 0
    """From -9 to 9: among the tasks that are due the higher goes first, then the longest due."""
    tags: Sequence[str] = ()
    """By which it is found: at most 10, each as ``is_tag`` has it, in any order."""
    parent_id: str | None = None
    """The task whose runner submitted it; there need be no such task any more."""
    cancel_with_parent: bool = False
    """Whether it is cancelled once its parent has ended as cancelled."""
    unique_key: str | None = None
    """While a task of the same op with this key has not ended, another one is not created: the open
    one is its answer, whatever its params are."""
    concurrency_key: str | None = None
    """Of its op no more tasks with this key run at once than ``KnownOp.max_concurrent``, and no
    more begin in a while than its rate has; ``""`` is the key of those that name none. ``None``: it
    counts with no others."""
    engine: str | None = None
    """What brings the task to a worker, by the name of its entry point; ``None``: workers claim it
    themselves."""
    queue: str = DEFAULT_QUEUE
    """Which workers take it: those of this queue, and those of all."""
    expires_in: float | None = None
    """Seconds from when it is due; once they are over and no attempt has begun, none begins, and
    the task ends as cancelled, with the reason ``expired``. ``None``: it waits as long as it
    takes."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A recorded cancel request. A task keeps its first request; later ones change nothing."""

    reason: CancelReason
    message: str
    by: str | None
    at_us: int
    """``at`` in microseconds since the Unix epoch."""
    role: str | None = None
    """The role of the database's session that recorded it; ``None`` where a store has no roles."""
    known: Assurance = Assurance.CLAIMED
    """How it is known who asked."""
    traceparent: str | None = field(default=None, compare=False)
    """W3C trace context of the span that it was requested in, as a task has its submit's; ``None``
    where that span is not recorded. On the row alone, not in the ``final``."""

    @property
    def at(self) -> datetime:
        """When it was recorded, by the clock of the store: an aware time in UTC."""
        return moment(self.at_us)


@quickly_made
@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work as its row stands.

    Times are aware and in UTC, by the database's clock. Each is made when it is read, of the field
    that holds it in integer microseconds since the Unix epoch and ends in ``_us``.
    """

    task_id: str
    op: str
    params: Mapping[str, Any]
    status: TaskStatus
    attempt: int
    """How often the task was claimed; also the fencing token of every write (invariant I5)."""
    owner: str | None
    """The manager that runs the task, or ran it to its end; ``None`` while it is pending."""
    created_us: int
    run_us: int
    claimed_us: int | None
    finished_us: int | None
    lease_expires_us: int | None
    timeout: float | None
    """Seconds an attempt may run; ``None`` for no limit."""
    retries: int
    """How many failed or lost attempts are followed by another one."""
    idempotency_key: str | None
    traceparent: str | None = field(repr=False)
    cancel: CancelRequest | None
    error_code: str | None
    """The error code of the ``final`` when the task failed."""
    retries_spent: int = 0
    """Retries that failed or lost attempts have used up; a release uses none."""
    priority: int = 0
    """Among the tasks that are due the higher goes first, then the longest due."""
    tags: tuple[str, ...] = ()
    """By which it is found, in the order of their characters, each once."""
    parent_id: str | None = None
    """The task whose runner submitted it; it may be deleted by now."""
    cancel_with_parent: bool = False
    """Whether it is cancelled once its parent has ended as cancelled."""
    unique_key: str | None = None
    """Of its op no other task with this key is open beside it."""
    concurrency_key: str | None = None
    """Of its op no more tasks with this key run at once, or begin in a while, than the op
    allows."""
    parked: bool = False
    """Whether it is pending, and its concurrency key has no slot free, or its rate no place: no
    worker takes it before. A claim gives it both as soon as it is due and they are there."""
    engine: str | None = None
    """What brings it to a worker; ``None``: workers claim it themselves."""
    queue: str = DEFAULT_QUEUE
    """Which workers take it: those of this queue, and those of all."""
    expires_in: float | None = None
    """Seconds from when it is due within which its first attempt begins, or none does; ``None``
    for no limit."""
    key: int = field(default=0, repr=False, compare=False)
    """The store's own short key of the row; it means nothing outside that store."""
    damage: str = ""
    """What of a row cannot be read that was written past tapescope; such a task is not run."""

    @property
    def created_at(self) -> datetime:
        """When the task was submitted."""
        return moment(self.created_us)

    @property
    def run_at(self) -> datetime:
        """The task is due from this time on."""
        return moment(self.run_us)

    @property
    def expires_us(self) -> int | None:
        """``expires_at`` in microseconds since the Unix epoch."""
        if self.expires_in is None or self.attempt:
            return None
        return min(self.run_us + round(self.expires_in * 1_000_000), LAST_TIME)

    @property
    def expires_at(self) -> datetime | None:
        """From this time on no attempt begins; ``None`` where it does not expire, or no more, for
        one has begun."""
        return None if (expires_us := self.expires_us) is None else moment(expires_us)

    def has_expired(self, now: int) -> bool:
        """Whether it waits at ``now``, in microseconds since the Unix epoch, and is not to begin
        any more."""
        if self.status is not TaskStatus.PENDING or (expires_us := self.expires_us) is None:
            return False
        return expires_us <= now

    @property
    def claimed_at(self) -> datetime | None:
        """When its attempt began; ``None`` while it is pending."""
        return None if self.claimed_us is None else moment(self.claimed_us)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, by the clock of the process that ended it; ``None`` while it lives."""
        return None if self.finished_us is None else moment(self.finished_us)

    @property
    def lease_expires_at(self) -> datetime | None:
        """When its lease is over if it is not renewed; ``None`` where it does not run."""
        return None if self.lease_expires_us is None else moment(self.lease_expires_us)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of tasks, newest first. A page of a filtered list may have none, and yet a next."""

    tasks: tuple[Task, ...]
    next: str | None
    """Pass it as ``before`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list is to have: those that meet every condition that is given."""

    status: TaskStatus | None = None
    op: str | None = None
    owner: str | None = None
    """The manager that runs the task, or ran it to its end."""
    queue: str | None = None
    idempotency_key: str | None = None
    since_us: int | None = None
    """Created at this time or later, in microseconds since the Unix epoch."""
    until_us: int | None = None
    """Created before this time."""
    from_id: str | None = None
    """The lowest id that a task created ``since_us`` can have: an id begins with its time."""
    tag: str | None = None
    """Among its tags."""
    parent_id: str | None = None
    """The task whose runner submitted it."""
    params: bool = True
    """Whether their params are to be read, too; a store may leave them out, empty, where not."""

    def admits(self, task: Task) -> bool:
        """Whether the task meets every condition."""
        return (
            self.status in (None, task.status)
            and self.op in (None, task.op)
            and self.owner in (None, task.owner)
            and self.queue in (None, task.queue)
            and self.idempotency_key in (None, task.idempotency_key)
            and (self.tag is None or self.tag in task.tags)
            and self.parent_id in (None, task.parent_id)
            and (self.since_us is None or task.created_us >= self.since_us)
            and (self.until_us is None or task.created_us < self.until_us)
            and (self.from_id is None or task.task_id >= self.from_id)
        )


@quickly_made
@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task, as every write of that run names it.

    ``number`` is the fencing token: the store refuses the writes of any attempt that is not the
    task's own (invariant I5).
    """

    task_id: str
    number: int
    owner: str
    cursor: object = field(default=None, repr=False, compare=False)
    """What the store that made the claim remembers of the attempt's tape. Only that store reads
    it."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Claim:
    """A task that was claimed, and the attempt that may write to the task's tape."""

    task: Task
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What went wrong, as a ``final`` or an ``attempt_failed`` keeps it."""

    code: str
    """One of ``ERROR_CODES``, or the qualified name of the exception that the runner raised."""
    message: str = ""
    traceback: str | None = None
    details: Mapping[str, Any] | None = None
    """What else is known, as a JSON object: the exit status of a command, for one."""

    def as_json(self) -> dict[str, Any]:
        """The JSON object that goes on the tape; absent parts are left out."""
        shape: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.traceback is not None:
            shape["traceback"] = self.traceback
        if self.details is not None:
            shape["details"] = dict(self.details)
        return shape


@quickly_made
@dataclass(frozen=True, slots=True)
class FinalEvent:
    """What a ``final`` event says: the outcome, with the result, the error or the cancel."""

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
        """The task failed, and no attempt follows."""
        return cls(Outcome.FAILED, error=error)

    @classmethod
    def cancelled(cls, cancel: CancelRequest, error: ErrorInfo | None = None) -> FinalEvent:
        """The task was cancelled; ``error`` is what the runner's cleanup raised, if it did."""
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
                "known": self.cancel.known.value,
                "role": self.cancel.role,
                "requested_at": format_time(self.cancel.at_us),
            }
        return body

    @classmethod
    def from_event(cls, event: Event) -> FinalEvent:
        """Read a stored ``final`` back."""
        assert event.type == FINAL, f"a {event.type!r} event is not a final"
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
                carry(CancelReason, cancel["reason"]),
                cancel["message"],
                cancel["by"],
                parse_time(cancel["requested_at"]),
                cancel.get("role"),
                carry(Assurance, cancel.get("known", Assurance.CLAIMED)),
            ),
        )
