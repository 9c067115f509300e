"""The words and values of the platform: frozen, without I/O, from the standard library alone.

Every word that is stored, counted or shown (event types, outcomes, drop reasons, error codes …) is
spelled here and nowhere else: telemetry, adapters, dashboards and docs import it.
"""

from __future__ import annotations

from tapescope.model.answers import Appended, Finished
from tapescope.model.audit import AUDIT_GRACE, AuditPage, AuditReport, AuditRule, Violation
from tapescope.model.error_codes import (
    BAD_RESULT,
    ERROR_CODES,
    TIMEOUT,
    UNREQUESTED_CANCEL,
    WORKER_LOST,
)
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.model.leases import GivenUp, HeldLease, Leases, Rescued, RescueResult
from tapescope.model.ops import DEFAULT_RETRIES, KnownOp
from tapescope.model.repairs import Mended, Repair, RepairReport
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    EVENT_TYPES,
    FINAL,
    LOG,
    PARTIAL,
    PROGRESS,
    RESERVED_EVENT_TYPES,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    TASK_STARTED,
    DroppedEvent,
    DropReason,
    Event,
    NewEvent,
    Outcome,
    QuarantinePage,
    TapePage,
    find_drop_reason,
    is_event_type,
)
from tapescope.model.tasks import (
    ActiveState,
    Attempt,
    AttemptOutcome,
    CancelReason,
    CancelRequest,
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskPage,
    TaskStatus,
    is_op,
)
from tapescope.model.times import as_microseconds, format_time, moment, parse_time

__all__ = [
    "ATTEMPT_FAILED",
    "ATTEMPT_RELEASED",
    "AUDIT_GRACE",
    "BAD_RESULT",
    "DEFAULT_RETRIES",
    "ERROR_CODES",
    "EVENT_TYPES",
    "FINAL",
    "LOG",
    "PARTIAL",
    "PROGRESS",
    "RESERVED_EVENT_TYPES",
    "TAPE_OPEN",
    "TAPE_UNKNOWN",
    "TASK_STARTED",
    "TIMEOUT",
    "UNREQUESTED_CANCEL",
    "WORKER_LOST",
    "ActiveState",
    "Appended",
    "Attempt",
    "AttemptOutcome",
    "AuditPage",
    "AuditReport",
    "AuditRule",
    "CancelReason",
    "CancelRequest",
    "Claim",
    "DropReason",
    "DroppedEvent",
    "ErrorInfo",
    "Event",
    "FinalEvent",
    "Finished",
    "GivenUp",
    "HeldLease",
    "KnownOp",
    "LeaderTerm",
    "Leases",
    "MaintenanceJob",
    "Mended",
    "NewEvent",
    "NewTask",
    "Outcome",
    "QuarantinePage",
    "Repair",
    "RepairReport",
    "RescueResult",
    "Rescued",
    "TapePage",
    "Task",
    "TaskPage",
    "TaskStatus",
    "Violation",
    "as_microseconds",
    "find_drop_reason",
    "format_time",
    "is_event_type",
    "is_op",
    "moment",
    "parse_time",
]
