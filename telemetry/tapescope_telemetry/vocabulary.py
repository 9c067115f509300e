"""What the attributes of the contract mean, and which values they have: for the reference pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tapescope.model import (
    ERROR_CODES,
    EVENT_TYPES,
    STALLED,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    TIMEOUT,
    WORKER_LOST,
    ActiveState,
    AttemptOutcome,
    AuditRule,
    BroughtResult,
    CancelReason,
    ConnectionAbort,
    ConnectionState,
    DropReason,
    FiringOutcome,
    HeldReason,
    LinkKind,
    LoopName,
    MessageResult,
    Outcome,
    ReconcileResult,
    Refusal,
    RescueResult,
    StreamEnd,
    TelemetrySource,
    WaitState,
)
from tapescope_telemetry.labels import DROP_OPS, ERROR_TYPES, TASK_OPS, USER_EVENT_TYPES
from tapescope_telemetry.names import OTHER, Attribute
from tapescope_telemetry.spans import ERROR_OUTCOMES

__all__ = ["ATTRIBUTES", "CICD_RESULTS", "RUN_OUTCOMES", "AttributeRow", "RunOutcome"]


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """An attribute of a span or a metric."""

    meaning: str
    values: tuple[str, ...] = ()
    """All of them where the set is closed, else those that are the platform's own."""
    open: str = ""
    """What else there may be; empty for a closed set."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run may end, and how its span says it."""

    outcome: AttemptOutcome
    meaning: str

    @property
    def is_error(self) -> bool:
        """Whether the span has the status ERROR and an ``error.type``; else it is UNSET."""
        return self.outcome in ERROR_OUTCOMES


_A = Attribute
_CAPPED: Final = f"on a metric the first {{}}, then `{OTHER}`"

ATTRIBUTES: Final[Mapping[str, AttributeRow]] = {
    _A.OP: AttributeRow(
        "What the task does.",
        open=f"your ops; {_CAPPED.format(TASK_OPS)} (drops: {DROP_OPS})",
    ),
    _A.TASK_ID: AttributeRow("The task's id, a UUIDv7. On spans only.", open="ids"),
    _A.STATE: AttributeRow(
        "Where a task is that has not ended; in the backlog, what it waits for.",
        (*ActiveState, *WaitState),
    ),
    _A.OUTCOME: AttributeRow(
        "How the task ended; on a run span also how the attempt did, see the spans.", tuple(Outcome)
    ),
    _A.ATTEMPT: AttributeRow("Which run of the task it is, from 1. On spans only.", open="numbers"),
    _A.OWNER: AttributeRow("The manager that ran it: host, pid, start. On spans only.", open="ids"),
    _A.QUEUE_WAIT: AttributeRow(
        "From when the task was due to this attempt's claim, as the metric of this name has it.",
        open="seconds",
    ),
    _A.TIMEOUT: AttributeRow(
        "How long the attempt may run; absent without a limit.", open="seconds"
    ),
    _A.RETRIES_LEFT: AttributeRow(
        "How many attempts may follow this one, should it fail.", open="numbers"
    ),
    _A.RESCUE_RESULT: AttributeRow(
        "What became of a task whose owner was lost.", tuple(RescueResult)
    ),
    _A.CANCEL_REASON: AttributeRow(
        "Who wanted the cancel; a person's words are on the tape only.",
        tuple(CancelReason),
    ),
    _A.CANCEL_REQUESTED: AttributeRow(
        "A cancel was on record, whether it won or not.", ("true",), open="absent where none was"
    ),
    _A.TAPE_LENGTH: AttributeRow("Events of the tape when the run ended.", open="numbers"),
    _A.TAPE_DROPPED: AttributeRow("Events of the run that came too late.", open="numbers"),
    _A.TAPE_OUTCOME: AttributeRow(
        "How the tape ended that an event came too late for.",
        (*Outcome, TAPE_OPEN, TAPE_UNKNOWN),
    ),
    _A.EVENT_TYPE: AttributeRow(
        "The event's type.",
        EVENT_TYPES,
        open=f"your types; {_CAPPED.format(USER_EVENT_TYPES)}",
    ),
    _A.DROP_REASON: AttributeRow("Why an event was kept off its tape.", tuple(DropReason)),
    _A.AUDIT_RULE: AttributeRow("The rule that the audit found broken.", tuple(AuditRule)),
    _A.ADAPTER: AttributeRow("The kind of store.", ("sqlite", "postgresql"), open="others' stores"),
    _A.OPERATION: AttributeRow("The verb of the store's port.", open="a closed set"),
    _A.SUBSCRIBER_KIND: AttributeRow("Who follows a tape.", ("follow",)),
    _A.TELEMETRY_SOURCE: AttributeRow("What raised.", tuple(TelemetrySource)),
    _A.LOOP: AttributeRow("The loop that met the error.", tuple(LoopName)),
    _A.CONNECTION_STATE: AttributeRow("What a connection does.", tuple(ConnectionState)),
    _A.TAGS: AttributeRow(
        "What the task is found by, as a list. On spans only.", open="texts of its submitter"
    ),
    _A.PARENT_ID: AttributeRow(
        "The task whose runner submitted this one. On spans only.", open="ids of tasks"
    ),
    _A.SCHEDULE: AttributeRow("The schedule that made the task. On spans only.", open="names"),
    _A.FIRING_TIME: AttributeRow(
        "For when the schedule made the task. On spans only.", open="times: 2026-01-31T12:00:00Z"
    ),
    _A.FIRING_OUTCOME: AttributeRow(
        "What became of a firing time of a schedule.", tuple(FiringOutcome)
    ),
    _A.MESSAGE_RESULT: AttributeRow("What became of a message to a task.", tuple(MessageResult)),
    _A.ENGINE: AttributeRow(
        "What brings the task to a worker; absent on a run that the worker claimed by itself.",
        ("temporal",),
        open="others' engines",
    ),
    _A.BROUGHT_RESULT: AttributeRow(
        "What became of a task that an engine brought.", tuple(BroughtResult)
    ),
    _A.HELD_REASON: AttributeRow(
        "Why a task that an engine brought was not begun; absent where it was.", tuple(HeldReason)
    ),
    _A.RECONCILE_RESULT: AttributeRow(
        "What a reconciler came to with a task.", tuple(ReconcileResult)
    ),
    _A.LINK: AttributeRow("Where a link of a span leads. On links only.", tuple(LinkKind)),
    _A.STREAM_END: AttributeRow("Why a stream of a server ended.", tuple(StreamEnd)),
    _A.REFUSAL: AttributeRow("Why a server refused a request by itself.", tuple(Refusal)),
    _A.ABORT: AttributeRow("Why a server ended a connection by itself.", tuple(ConnectionAbort)),
    _A.METHOD: AttributeRow("The method of a request.", open=f"those of HTTP, else `{OTHER}`"),
    _A.ROUTE: AttributeRow(
        "The template of a request's path, such as `/v1/tasks/{task_id}`; absent where no route "
        "has it.",
        open="a closed set",
    ),
    _A.STATUS: AttributeRow("The status of an answer.", open="those of HTTP"),
    _A.ERROR_TYPE: AttributeRow(
        "What failed: a code of the platform's, or an exception's qualified name. Absent where "
        "nothing did, and on every cancel.",
        ERROR_CODES,
        open=f"exceptions; {_CAPPED.format(ERROR_TYPES)}",
    ),
    _A.FUNCTION: AttributeRow("The runner: its module and qualified name.", open="functions"),
}

RUN_OUTCOMES: Final = (
    RunOutcome(AttemptOutcome.SUCCEEDED, "The runner returned."),
    RunOutcome(AttemptOutcome.FAILED, "It raised, timed out, or returned what is not JSON."),
    RunOutcome(AttemptOutcome.CANCELLED, "A cancel was requested, and the run ended by it."),
    RunOutcome(AttemptOutcome.RETRIED, "The attempt failed; another one follows."),
    RunOutcome(AttemptOutcome.LOST, "The lease or the store was lost; another may run it again."),
    RunOutcome(AttemptOutcome.RELEASED, "Given back at a shutdown, for another to run."),
)
"""The values of ``tapescope.task.outcome`` on a run span."""

CICD_RESULTS: Final = (
    (Outcome.SUCCEEDED, "", "success"),
    (Outcome.FAILED, "", "failure"),
    (Outcome.FAILED, TIMEOUT, "timeout"),
    (Outcome.FAILED, STALLED, "timeout"),
    (Outcome.FAILED, WORKER_LOST, "error"),
    (Outcome.CANCELLED, "", "cancellation"),
)
"""(outcome, ``error.type`` where it decides, ``cicd.pipeline.task.run.result``)."""
