"""tapescope: tasks that each leave a durable tape, ended by exactly one ``final``.

Every public name is imported when it is first asked for, from the room that has it: a process pays
for what it uses, and telemetry can take its words from ``tapescope.model`` below this door
(docs/decisions/0023).
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapescope import errors as errors
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
        SchemaForbidden,
        SchemaTooNew,
        SchemaTooOld,
        StoreAuthFailed,
        StoreClosed,
        StoreConfigError,
        StoreFull,
        StoreNotFound,
        StoreReadOnly,
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
    from tapescope.maintenance import Retention, audit_store, repair_store
    from tapescope.manager import Submission, TaskHandle, TaskManager
    from tapescope.model import (
        Appended,
        AuditPage,
        AuditReport,
        AuditRule,
        CancelReason,
        CancelRequest,
        DroppedEvent,
        DropReason,
        ErrorInfo,
        Event,
        FinalEvent,
        Finished,
        Mended,
        NewEvent,
        NewTask,
        Outcome,
        QuarantinePage,
        Repair,
        RepairReport,
        TapePage,
        Task,
        TaskPage,
        TaskStatus,
        Violation,
    )
    from tapescope.model import FinalEvent as Final
    from tapescope.run.reporter import Reporter, ThreadReporter
    from tapescope.shell import ShellCommand
    from tapescope.store import OpenMode, StoreLimits, TaskStore, find_store
    from tapescope.store.flush import CancelAnswer, CancelState
    from tapescope.store.notifications import Change, Subscription
    from tapescope_telemetry import Telemetry, __version__

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
    "OpenMode",
    "Outcome",
    "QuarantinePage",
    "Repair",
    "RepairReport",
    "Reporter",
    "Retention",
    "SchemaForbidden",
    "SchemaTooNew",
    "SchemaTooOld",
    "ShellCommand",
    "StoreAuthFailed",
    "StoreClosed",
    "StoreConfigError",
    "StoreFull",
    "StoreLimits",
    "StoreNotFound",
    "StoreReadOnly",
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
    "audit_store",
    "find_store",
    "repair_store",
]

_HOMES = {
    "Appended": "tapescope.model",
    "AuditPage": "tapescope.model",
    "AuditReport": "tapescope.model",
    "AuditRule": "tapescope.model",
    "BadEvent": "tapescope.errors",
    "BadEventType": "tapescope.errors",
    "BadOp": "tapescope.errors",
    "BadParams": "tapescope.errors",
    "BadRunner": "tapescope.errors",
    "BadSetting": "tapescope.errors",
    "BadStoreUrl": "tapescope.errors",
    "BlockingCallOnLoop": "tapescope.errors",
    "CancelAnswer": "tapescope.store.flush",
    "CancelReason": "tapescope.model",
    "CancelRequest": "tapescope.model",
    "CancelRequested": "tapescope.errors",
    "CancelState": "tapescope.store.flush",
    "CannotListen": "tapescope.errors",
    "Change": "tapescope.store.notifications",
    "CommandFailed": "tapescope.errors",
    "ConnectionRefused": "tapescope.errors",
    "DropReason": "tapescope.model",
    "DroppedEvent": "tapescope.model",
    "ErrorInfo": "tapescope.model",
    "Event": "tapescope.model",
    "EventDropped": "tapescope.errors",
    "EventFateUnknown": "tapescope.errors",
    "EventTooLarge": "tapescope.errors",
    "Final": "tapescope.model",
    "FinalEvent": "tapescope.model",
    "Finished": "tapescope.model",
    "IdempotencyConflict": "tapescope.errors",
    "ManagerClosed": "tapescope.errors",
    "ManagerOpen": "tapescope.errors",
    "Mended": "tapescope.model",
    "MissingExtra": "tapescope.errors",
    "NewEvent": "tapescope.model",
    "NewTask": "tapescope.model",
    "NotJson": "tapescope.errors",
    "NowaitBacklogFull": "tapescope.errors",
    "OpNotRegistered": "tapescope.errors",
    "OpTaken": "tapescope.errors",
    "OpenMode": "tapescope.store",
    "Outcome": "tapescope.model",
    "QuarantinePage": "tapescope.model",
    "Repair": "tapescope.model",
    "RepairReport": "tapescope.model",
    "Reporter": "tapescope.run.reporter",
    "Retention": "tapescope.maintenance",
    "SchemaForbidden": "tapescope.errors",
    "SchemaTooNew": "tapescope.errors",
    "SchemaTooOld": "tapescope.errors",
    "ShellCommand": "tapescope.shell",
    "StoreAuthFailed": "tapescope.errors",
    "StoreClosed": "tapescope.errors",
    "StoreConfigError": "tapescope.errors",
    "StoreFull": "tapescope.errors",
    "StoreNotFound": "tapescope.errors",
    "StoreReadOnly": "tapescope.errors",
    "StoreLimits": "tapescope.store",
    "StoreRefused": "tapescope.errors",
    "StoreUnavailable": "tapescope.errors",
    "Submission": "tapescope.manager",
    "Subscription": "tapescope.store.notifications",
    "TapeFull": "tapescope.errors",
    "TapeGap": "tapescope.errors",
    "TapePage": "tapescope.model",
    "TapescopeError": "tapescope.errors",
    "Task": "tapescope.model",
    "TaskCancelled": "tapescope.errors",
    "TaskFailed": "tapescope.errors",
    "TaskHandle": "tapescope.manager",
    "TaskManager": "tapescope.manager",
    "TaskNotEnded": "tapescope.errors",
    "TaskPage": "tapescope.model",
    "TaskStatus": "tapescope.model",
    "TaskStore": "tapescope.store",
    "Telemetry": "tapescope_telemetry",
    "ThreadReporter": "tapescope.run.reporter",
    "UnknownStoreScheme": "tapescope.errors",
    "UnknownTask": "tapescope.errors",
    "UsedAfterFork": "tapescope.errors",
    "Violation": "tapescope.model",
    "__version__": "tapescope_telemetry",
    "audit_store": "tapescope.maintenance",
    "find_store": "tapescope.store",
    "repair_store": "tapescope.maintenance",
}
"""Public name → the module that has it."""

_ALIASES = {"Final": "FinalEvent"}
"""Public name → its own name in that module."""


if not TYPE_CHECKING:  # with it in their sight, type checkers would take any name for a good one

    def __getattr__(name: str) -> Any:
        if name == "errors":  # ``except tapescope.errors.UnknownTask`` needs no second import
            return import_module("tapescope.errors")
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}",
                name=name,
                obj=sys.modules[__name__],
            )
        value = getattr(import_module(_HOMES[name]), _ALIASES.get(name, name))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "errors"})


# A library does not decide where its log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())
