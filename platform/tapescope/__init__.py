"""tapescope: tasks that each leave a durable tape, ended by exactly one ``final``."""

from __future__ import annotations

import logging

from tapescope._calls import (
    Appended,
    Finished,
)
from tapescope._changes import (
    Change,
    Subscription,
)
from tapescope._checks import (
    StoreLimits,
)
from tapescope._stores import (
    find_store,
)
from tapescope.audit import (
    AuditPage,
    AuditReport,
    AuditRule,
    Violation,
)
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
from tapescope.flush import (
    CancelAnswer,
    CancelState,
)
from tapescope.handle import (
    TaskHandle,
)
from tapescope.manager import (
    Submission,
    TaskManager,
)
from tapescope.repair import (
    Mended,
    Repair,
    RepairReport,
)
from tapescope.reporter import (
    Reporter,
    ThreadReporter,
)
from tapescope.retention import (
    Retention,
)
from tapescope.shell import (
    ShellCommand,
)
from tapescope.store import (
    TaskStore,
)
from tapescope.tape import (
    DroppedEvent,
    DropReason,
    Event,
    NewEvent,
    Outcome,
    QuarantinePage,
    TapePage,
)
from tapescope.tasks import (
    CancelReason,
    CancelRequest,
    ErrorInfo,
    Final,
    NewTask,
    Task,
    TaskPage,
    TaskStatus,
)
from tapescope_telemetry import (
    Telemetry,
    __version__,
)

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
    "Final",
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
