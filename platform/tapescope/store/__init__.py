"""The store port: ``TaskStore``, and what the author of a backend needs.

A third store is a ``StoreBackend`` and one entry point of the group ``tapescope.stores``; see
docs/howto/write-a-store.md.
"""

from __future__ import annotations

from tapescope.clock import Backoff, Clock
from tapescope.codec import decode, encode
from tapescope.store.backend import BackendContext, LeaseRenewer, StoreBackend
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
    StoreOutOfRoom,
)
from tapescope.store.follow import await_final, follow_tape
from tapescope.store.lookup import find_store, hide_password
from tapescope.store.notifications import RESYNC, CancelListener, Change, Changes, Subscription
from tapescope.store.orders import (
    FIRST_FOREIGN_OFFER,
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
    body_of_started,
    cancel_instead,
)
from tapescope.store.port import TaskStore
from tapescope.store.repair_plan import (
    RepairEntry,
    RowMend,
    TapeMend,
    describe_lease,
    is_stuck,
    mend_tape,
    read_outcome,
)
from tapescope.store.validation import StoreLimits, new_task_id

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
    "RefusedRow",
    "RepairEntry",
    "RescueOrder",
    "RescuedRow",
    "RowMend",
    "RowSource",
    "SchemaVersions",
    "StoreAway",
    "StoreBackend",
    "StoreLimits",
    "StoreOutOfRoom",
    "Subscription",
    "TapeMend",
    "TaskStore",
    "await_final",
    "body_of_started",
    "cancel_instead",
    "decode",
    "describe_lease",
    "encode",
    "find_store",
    "follow_tape",
    "hide_password",
    "is_stuck",
    "mend_tape",
    "new_task_id",
    "read_outcome",
]
