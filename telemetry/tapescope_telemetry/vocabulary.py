"""What the attributes of the contract mean, and which values they have: for the reference pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tapescope_telemetry.labels import DROP_OPS, ERROR_TYPES, TASK_OPS, USER_EVENT_TYPES
from tapescope_telemetry.names import (
    AUDIT_RULES,
    KNOWN_CANCEL_REASONS,
    KNOWN_ERROR_TYPES,
    KNOWN_EVENT_TYPES,
    OTHER,
    OUTCOMES,
    RESCUE_RESULTS,
    STATES,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    Attribute,
)
from tapescope_telemetry.stores import DROP_REASONS

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

    outcome: str
    status: str
    error_type: bool
    meaning: str


_A = Attribute
_CAPPED: Final = f"on a metric the first {{}}, then `{OTHER}`"

ATTRIBUTES: Final[Mapping[str, AttributeRow]] = {
    _A.OP: AttributeRow(
        "What the task does.",
        open=f"your ops; {_CAPPED.format(TASK_OPS)} (drops: {DROP_OPS})",
    ),
    _A.TASK_ID: AttributeRow("The task's id, a UUIDv7. On spans only.", open="ids"),
    _A.STATE: AttributeRow("Where a task is that has not ended.", STATES),
    _A.OUTCOME: AttributeRow(
        "How the task ended; on a run span also how the attempt did, see the spans.", OUTCOMES
    ),
    _A.ATTEMPT: AttributeRow("Which run of the task it is, from 1. On spans only.", open="numbers"),
    _A.OWNER: AttributeRow("The manager that ran it: host, pid, start. On spans only.", open="ids"),
    _A.RESCUE_RESULT: AttributeRow("What became of a task whose owner was lost.", RESCUE_RESULTS),
    _A.CANCEL_REASON: AttributeRow(
        "Who wanted the cancel; a person's words are on the tape only.",
        KNOWN_CANCEL_REASONS,
    ),
    _A.CANCEL_REQUESTED: AttributeRow(
        "A cancel was on record, whether it won or not.", ("true",), open="absent where none was"
    ),
    _A.TAPE_LENGTH: AttributeRow("Events of the tape when the run ended.", open="numbers"),
    _A.TAPE_DROPPED: AttributeRow("Events of the run that came too late.", open="numbers"),
    _A.TAPE_OUTCOME: AttributeRow(
        "How the tape ended that an event came too late for.",
        (*OUTCOMES, TAPE_OPEN, TAPE_UNKNOWN),
    ),
    _A.EVENT_TYPE: AttributeRow(
        "The event's type.",
        KNOWN_EVENT_TYPES,
        open=f"your types; {_CAPPED.format(USER_EVENT_TYPES)}",
    ),
    _A.DROP_REASON: AttributeRow("Why an event was kept off its tape.", DROP_REASONS),
    _A.AUDIT_RULE: AttributeRow("The rule that the audit found broken.", AUDIT_RULES),
    _A.ADAPTER: AttributeRow("The kind of store.", ("sqlite", "postgresql"), open="others' stores"),
    _A.OPERATION: AttributeRow("The verb of the store's port.", open="a closed set"),
    _A.SUBSCRIBER_KIND: AttributeRow("Who follows a tape.", ("follow",)),
    _A.ERROR_TYPE: AttributeRow(
        "What failed: a code of the platform's, or an exception's qualified name. Absent where "
        "nothing did, and on every cancel.",
        KNOWN_ERROR_TYPES,
        open=f"exceptions; {_CAPPED.format(ERROR_TYPES)}",
    ),
}

RUN_OUTCOMES: Final = (
    RunOutcome("succeeded", "UNSET", False, "The runner returned."),
    RunOutcome("failed", "ERROR", True, "It raised, timed out, or returned what is not JSON."),
    RunOutcome("cancelled", "UNSET", False, "Somebody asked for it, and it ended so."),
    RunOutcome("retried", "ERROR", True, "The attempt failed; another one follows."),
    RunOutcome("lost", "ERROR", True, "The lease or the store was lost; another may run it again."),
    RunOutcome("released", "UNSET", False, "Given back at a shutdown, for another to run."),
)
"""The values of ``tapescope.task.outcome`` on a run span."""

CICD_RESULTS: Final = (
    ("succeeded", "", "success"),
    ("failed", "", "failure"),
    ("failed", "timeout", "timeout"),
    ("failed", "worker_lost", "error"),
    ("cancelled", "", "cancellation"),
)
"""(outcome, ``error.type`` where it decides, ``cicd.pipeline.task.run.result``)."""
