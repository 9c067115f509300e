"""tapescope: tasks that each leave a durable tape, ended by exactly one ``final``."""

from __future__ import annotations

import logging

from tapescope.errors import (
    BadEvent,
    BadEventType,
    BadOp,
    BadParams,
    BadRunner,
    BadSetting,
    BadStoreUrl,
    BlockingCallOnLoop,
    CancelRequested,
    CannotListen,
    CommandFailed,
    ConnectionRefused,
    EventDropped,
    EventFateUnknown,
    EventTooLarge,
    IdempotencyConflict,
    ManagerClosed,
    ManagerOpen,
    MissingExtra,
    NotJson,
    NowaitBacklogFull,
    OpNotRegistered,
    OpTaken,
    SchemaTooNew,
    SchemaTooOld,
    StoreClosed,
    StoreConfigError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TapeFull,
    TapeGap,
    TapescopeError,
    TaskCancelled,
    TaskFailed,
    TaskNotEnded,
    UnknownStoreScheme,
    UnknownTask,
    UsedAfterFork,
)
from tapescope.maintenance.retention import Retention
from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.manager.submission import Submission
from tapescope.model.answers import Appended, Finished
from tapescope.model.audit import AuditPage, AuditReport, AuditRule, Violation
from tapescope.model.repairs import Mended, Repair, RepairReport
from tapescope.model.tape import (
    DroppedEvent,
    DropReason,
    Event,
    NewEvent,
    Outcome,
    QuarantinePage,
    TapePage,
)
from tapescope.model.tasks import (
    CancelReason,
    CancelRequest,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskPage,
    TaskStatus,
)
from tapescope.run.reporter import Reporter, ThreadReporter
from tapescope.shell.command import ShellCommand
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.lookup import find_store
from tapescope.store.notifications import Change, Subscription
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits
from tapescope_telemetry import (
    Telemetry,
    __version__,
)

Final = FinalEvent
"""The body of a ``final``; ``FinalEvent`` is its own name."""

__all__ = [
    "Appended",
    "AuditPage",
    "AuditReport",
    "AuditRule",
    "BadEvent",
    "BadEventType",
    "BadOp",
    "BadParams",
    "BadRunner",
    "BadSetting",
    "BadStoreUrl",
    "BlockingCallOnLoop",
    "CancelAnswer",
    "CancelReason",
    "CancelRequest",
    "CancelRequested",
    "CancelState",
    "CannotListen",
    "Change",
    "CommandFailed",
    "ConnectionRefused",
    "DropReason",
    "DroppedEvent",
    "ErrorInfo",
    "Event",
    "EventDropped",
    "EventFateUnknown",
    "EventTooLarge",
    "FinalEvent",
    "Finished",
    "IdempotencyConflict",
    "ManagerClosed",
    "ManagerOpen",
    "Mended",
    "MissingExtra",
    "NewEvent",
    "NewTask",
    "NotJson",
    "NowaitBacklogFull",
    "OpNotRegistered",
    "OpTaken",
    "Outcome",
    "QuarantinePage",
    "Repair",
    "RepairReport",
    "Reporter",
    "Retention",
    "SchemaTooNew",
    "SchemaTooOld",
    "ShellCommand",
    "StoreClosed",
    "StoreConfigError",
    "StoreFull",
    "StoreLimits",
    "StoreRefused",
    "StoreUnavailable",
    "Submission",
    "Subscription",
    "TapeFull",
    "TapeGap",
    "TapePage",
    "TapescopeError",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskHandle",
    "TaskManager",
    "TaskNotEnded",
    "TaskPage",
    "TaskStatus",
    "TaskStore",
    "Telemetry",
    "ThreadReporter",
    "UnknownStoreScheme",
    "UnknownTask",
    "UsedAfterFork",
    "Violation",
    "__version__",
    "find_store",
]

# A library does not decide where its log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())
