"""What a backend is given to write, and what it answers.

One *flush* is one transaction. The port folds many concurrent calls into it; the backend carries it
out in this order: creates, claims, event rows, cancels. It answers for each, or raises one of the
four errors below, and then nothing of the flush is (known to be) written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tapescope.errors import StoreBusy, StoreFull, StoreUnavailable
from tapescope.model.tape import FINAL
from tapescope.model.tasks import DEFAULT_QUEUE

if TYPE_CHECKING:
    from tapescope.model.messages import Untaken
    from tapescope.model.tape import DropReason, Outcome
    from tapescope.model.tasks import CancelRequest, Task

__all__ = [
    "AttemptState",
    "CancelAnswer",
    "CancelRow",
    "CancelState",
    "ClaimAnswer",
    "ClaimRow",
    "CreateRow",
    "EventRow",
    "FateUnknown",
    "Flush",
    "FlushAnswer",
    "FlushBlocked",
    "FlushRefused",
    "GiveUpRow",
    "Inserted",
    "RefusedRow",
    "RowSource",
    "StoreAway",
    "StoreLocked",
    "StoreOutOfRoom",
    "as_unavailable",
    "find_key",
    "list_ended",
]


class StoreAway(Exception):
    """The database cannot be reached; nothing was applied. The port tries again for a while."""


class StoreLocked(StoreAway):
    """Others have the database, or every place in it, for now: it is there, and busy."""


class StoreOutOfRoom(StoreAway):
    """The disk is full, of the database or of its log. It may pass: an operator may make room."""


def as_unavailable(store: str, error: Exception) -> StoreUnavailable:
    """The error for a caller whose patience with a store that is away has come to its end."""
    if isinstance(error, StoreLocked):
        return StoreBusy(store, str(error))
    kind = StoreFull if isinstance(error, StoreOutOfRoom) else StoreUnavailable
    return kind(store, str(error))


class FateUnknown(Exception):
    """The connection was lost while a flush was under way. The port resends the same flush."""


class FlushRefused(Exception):
    """The database refused the flush, and would again. The port splits it to find the guilty."""


class FlushBlocked(Exception):
    """A row lock could not be had in time; nothing was applied.

    The port splits the flush, and tries the blocked call again, on a lane of its own: a backend
    that raises this is given one flush more at a time than it has ``write_lanes``.
    """


class CreateRow(NamedTuple):
    """A task to insert as pending."""

    task_id: str
    op: str
    params: str
    """JSON text."""
    timeout: float | None
    retries: int
    idempotency_key: str | None
    traceparent: str | None
    run_at: int | None
    """Microseconds since the epoch; ``None`` for now, by the database's clock."""
    owner: str | None = None
    """Who alone can run it, where a proof that it is dead ends the task."""
    lease: int | None = None
    """Microseconds from ``run_at`` on after which the pending task is lost; ``None``: never, for
    any worker can run it."""
    priority: int = 0
    """The higher goes first among what is due."""
    tags: str | None = None
    """JSON text: a list of texts, sorted; ``None`` for none."""
    parent_id: str | None = None
    """The id of the task whose runner submitted it."""
    cancel_with_parent: bool = False
    """Whether ``find_followers`` is to find it."""
    unique_key: str | None = None
    """No other task of the op with this key is open beside it."""
    concurrency_key: str | None = None
    """The task is born parked: without a slot of this key of its op, and so not due."""
    engine: str = ""
    """What brings it to a worker; empty: workers claim it themselves."""
    queue: str = DEFAULT_QUEUE
    """Which workers take it."""
    expires_in: int | None = None
    """Microseconds from when it is due after which no first attempt begins; ``None``: never."""


class Inserted(NamedTuple):
    """A task that is in the caller's transaction now."""

    key: int
    created_us: int
    """Microseconds since the epoch, by the database's clock."""


class ClaimRow(NamedTuple):
    """pending, due and of this attempt → running, attempt + 1, and ``task_started`` on the tape."""

    task_id: str
    key: int
    """Below 0 for a task that this very flush creates: -1 for the first of ``Flush.creates``, -2
    for the second; see ``find_key``."""
    attempt: int
    """The attempt the caller saw; a row that has moved on is not claimed."""
    owner: str
    lease: int
    """Microseconds the claim holds without a heartbeat."""
    ts: int
    body: str
    """JSON text of the ``task_started`` event, which is offer 1 of its attempt."""


def find_key(row: ClaimRow, made: Sequence[int]) -> int:
    """The key of the task to claim; ``made`` are the keys of the flush's creates, in their order.

    0, which no task has, where another one stood in the place of that create.
    """
    return row.key if row.key >= 0 else made[-1 - row.key]


class EventRow(NamedTuple):
    """An event for a running attempt's tape; the guard is running ∧ attempt ∧ owner."""

    key: int
    """The task row's key; 0 where the store has no such task."""
    seq: int
    attempt: int
    offer: int
    """The attempt's count of offers: with ``attempt``, the event's identity on its task."""
    type: str
    ts: int
    body: str
    owner: str


class RowSource(Protocol):
    """Where event rows come from: one attempt of one task."""

    @property
    def task_id(self) -> str:
        """The task's id, also where the store has no such task."""
        ...

    @property
    def trace_id(self) -> str | None:
        """The trace of the attempt's run span, for the quarantine; ``None`` without one."""
        ...


class GiveUpRow(NamedTuple):
    """An event among the rows that gives its task up: running → pending. It is an
    ``attempt_failed``, or an ``attempt_released`` that spends no retry.

    Where a cancel is on record, the cancelled ``final`` is written in its place.
    """

    row: int
    """Its place in ``Flush.rows``."""
    run_at: int | None
    """Not before this time, in microseconds since the epoch; ``None`` for at once."""
    spends: int
    """Retries it spends: 1, or 0 for a release."""
    owner: str | None = None
    """Who alone can run it again, as in ``CreateRow``."""
    lease: int | None = None
    """As in ``CreateRow``."""


class TraceRow(NamedTuple):
    """Where the run span of an attempt is: kept once, with its task."""

    key: int
    attempt: int
    trace_id: str
    span_id: str


class CancelRow(NamedTuple):
    """A cancel request: a pending task ends with ``body`` as its ``final``; a running one, soon."""

    task_id: str
    reason: str
    message: str
    by: str | None
    ts: int
    body: str
    traceparent: str | None
    """As ``CancelRequest`` has it."""


@dataclass(slots=True)
class Flush:
    """One transaction's worth of writes.

    ``lane`` and ``number`` name it for as long as the store is open: a flush that is sent again
    after its fate was unknown carries the same name, and a backend whose replies can be lost
    answers it as the first time. A store that is opened again begins its numbers anew.
    """

    lane: str
    number: int
    creates: list[CreateRow] = field(default_factory=list["CreateRow"])
    claims: list[ClaimRow] = field(default_factory=list["ClaimRow"])
    rows: list[EventRow] = field(default_factory=list["EventRow"])
    """In ``seq`` order for each task."""
    sources: list[RowSource] = field(default_factory=list["RowSource"])
    """For each row where it comes from: the rows of one attempt share one source."""
    give_ups: list[GiveUpRow] = field(default_factory=list["GiveUpRow"])
    cancels: list[CancelRow] = field(default_factory=list["CancelRow"])
    traces: list[TraceRow] = field(default_factory=list["TraceRow"])
    """Of attempts among the rows; one that is kept already, or has no task, is passed over."""
    sent: bool = False
    """The database may have it: set by a backend that may hang."""
    was_blocked: bool = False
    """Its calls waited for a lock in vain before: others wait behind it, so it waits shortly."""


class ClaimAnswer(NamedTuple):
    """A claim that won."""

    attempt: int
    claimed_us: int
    lease_expires_us: int
    started_seq: int
    """The ``seq`` of its ``task_started``."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """An event row that is not on the tape, and why. The store has counted and quarantined it."""

    row: int
    """Its place in ``Flush.rows``."""
    reason: DropReason | None
    """``None`` for a ``final`` that is the tape's own, sent again: not a drop."""
    op: str | None
    """The task's op; ``None`` when there is no such task."""
    outcome: Outcome | None
    """How the task ended; ``None`` where its tape is open or unknown."""
    last_seq: int


class CancelState(StrEnum):
    """What a cancel request found the task to be."""

    CANCELLED = "cancelled"
    """It was pending: it ended as cancelled in this transaction."""
    RECORDED = "recorded"
    """It runs: the request is on record, and its owner is notified."""
    ALREADY_RECORDED = "already_recorded"
    """It runs, and an earlier request is on record, which stays."""
    TERMINAL = "terminal"
    """It has ended; nothing changed."""
    NOT_EXPIRED = "not_expired"
    """The request was that of its expiry, and its time is not over, or an attempt has begun;
    nothing changed."""


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What became of a cancel request."""

    state: CancelState
    op: str
    owner: str | None
    attempt: int
    request: CancelRequest | None
    """The request on record; ``None`` for a task that ended without one, or ``NOT_EXPIRED``."""
    last_seq: int
    """The tape's end; the cancelled task's ``final`` when the state is ``CANCELLED``."""
    traceparent: str | None = None
    """The task's: the trace context of its submit."""


@dataclass(slots=True)
class FlushAnswer:
    """What the database did with a flush, from the rows that it says it wrote."""

    now: int
    """The database's time, in microseconds since the epoch."""
    keys: Sequence[int] = ()
    """One per create; 0 where another task stands in its place (see ``existing``)."""
    existing: dict[int, Task] = field(default_factory=dict[int, "Task"])
    """By place in ``creates``: the task of its id, or that of its op with its idempotency key, or
    the open one with its unique key: the first of these that there is."""
    claims: Sequence[ClaimAnswer | None] = ()
    refused: Sequence[RefusedRow] = ()
    cancelled_instead: dict[int, CancelRequest] = field(default_factory=dict[int, "CancelRequest"])
    """By place in ``rows``: the cancel on record that made the row of a give-up a ``final``."""
    cancels: Sequence[CancelAnswer | None] = ()
    """One per cancel; ``None`` for an unknown task."""
    untaken: Sequence[Untaken] = ()
    """Of the tasks that this flush has ended (``list_ended``): those with messages not taken."""


def list_ended(flush: Flush, answer: FlushAnswer) -> list[str]:
    """The ids of the tasks that a flush has ended, from what was answered so far."""
    refused = {row.row for row in answer.refused}
    ended = [
        flush.sources[place].task_id
        for place, row in enumerate(flush.rows)
        if (row.type == FINAL or place in answer.cancelled_instead) and place not in refused
    ]
    ended += [
        row.task_id
        for row, met in zip(flush.cancels, answer.cancels, strict=True)
        if met is not None and met.state is CancelState.CANCELLED
    ]
    return ended


class AttemptState(NamedTuple):
    """Where an attempt's tape stands, for a writer that does not know."""

    key: int
    """0 where the store has no such task; then ``op`` is empty, and ``last_seq`` is 0."""
    op: str
    last_seq: int
    last_offer: int
    """The highest offer of the attempt, on the tape or dropped."""
