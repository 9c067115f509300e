"""The store port: ``TaskStore``, and what a backend implements."""

from __future__ import annotations

from tapescope.model.leases import GivenUp, Leases, Rescued, RescueResult
from tapescope.store.lookup import find_store
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id

__all__ = [
    "GivenUp",
    "Leases",
    "RescueResult",
    "Rescued",
    "StoreLimits",
    "TaskStore",
    "find_store",
    "new_task_id",
]
