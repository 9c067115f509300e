"""The store port: ``TaskStore``, and what the author of a backend needs.

A third store is a ``StoreBackend`` and one entry point of the group ``tapescope.stores``; see
docs/howto/write-a-store.md.
"""

from __future__ import annotations

from tapescope.clock import Backoff, Clock
from tapescope.codec import decode, encode
from tapescope.store.audit_rules import audit_tasks
from tapescope.store.backend import BackendContext, LeaseRenewer, StoreBackend
from tapescope.store.damage import are_times, as_damaged_task, read_drop, read_event
from tapescope.store.flush import (
    AttemptState,
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    EventRow,
    FateUnknown,
    Flush,
    FlushAnswer,
    FlushBlocked,
    FlushRefused,
    GiveUpRow,
    Inserted,
    RefusedRow,
    RowSource,
    StoreAway,
    StoreLocked,
    StoreOutOfRoom,
)
from tapescope.store.follow import await_final, follow_tape
from tapescope.store.lookup import find_store, hide_password, refuse_control_characters
from tapescope.store.notifications import RESYNC, CancelListener, Change, Changes, Subscription
from tapescope.store.opening import OpenMode, must_migrate
from tapescope.store.orders import (
    FIRST_FOREIGN_OFFER,
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    ListedTasks,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
    body_of_started,
    cancel_instead,
)
from tapescope.store.port import TaskStore
from tapescope.store.repair_plan import (
    RepairEntry,
    RepairPlan,
    RowMend,
    TapeMend,
    describe_lease,
    is_stuck,
    lease_end,
    mend_tape,
    plan_repair,
    read_outcome,
)
from tapescope.store.roles import DatabaseRole
from tapescope.store.tape_rules import (
    RowPlan,
    add_event,
    check_next_event,
    drop_event,
    plan_rows,
    start_tape,
)
from tapescope.store.task_rows import (
    StoredTask,
    as_ended,
    as_given_up,
    as_pending,
    as_running,
    plan_cancel,
)
from tapescope.store.validation import StoreLimits, check_seconds, new_task_id
from tapescope_telemetry import Telemetry

__all__ = [
    "FIRST_FOREIGN_OFFER",
    "RESYNC",
    "AttemptState",
    "BackendContext",
    "Backoff",
    "CancelAnswer",
    "CancelListener",
    "CancelRow",
    "CancelState",
    "Change",
    "Changes",
    "ClaimAnswer",
    "ClaimRow",
    "Clock",
    "CreateRow",
    "DatabaseRole",
    "DueDrop",
    "DueOrder",
    "DueRow",
    "DueTask",
    "EventRow",
    "FateUnknown",
    "Flush",
    "FlushAnswer",
    "FlushBlocked",
    "FlushRefused",
    "GiveUpRow",
    "Inserted",
    "LeaseRenewer",
    "ListedTasks",
    "OpenMode",
    "RefusedRow",
    "RepairEntry",
    "RepairPlan",
    "RescueOrder",
    "RescuedRow",
    "RowMend",
    "RowPlan",
    "RowSource",
    "SchemaVersions",
    "StoreAway",
    "StoreBackend",
    "StoreLimits",
    "StoreLocked",
    "StoreOutOfRoom",
    "StoredTask",
    "Subscription",
    "TapeMend",
    "TaskStore",
    "Telemetry",
    "add_event",
    "are_times",
    "as_damaged_task",
    "as_ended",
    "as_given_up",
    "as_pending",
    "as_running",
    "audit_tasks",
    "await_final",
    "body_of_started",
    "cancel_instead",
    "check_next_event",
    "check_seconds",
    "decode",
    "describe_lease",
    "drop_event",
    "encode",
    "find_store",
    "follow_tape",
    "hide_password",
    "is_stuck",
    "lease_end",
    "mend_tape",
    "must_migrate",
    "new_task_id",
    "plan_cancel",
    "plan_repair",
    "plan_rows",
    "read_drop",
    "read_event",
    "read_outcome",
    "refuse_control_characters",
    "start_tape",
]
