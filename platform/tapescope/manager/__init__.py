"""Many runs: ``TaskManager``, its worker and its heartbeat, and the handles on its tasks."""

from __future__ import annotations

from tapescope.manager.handle import TaskHandle
from tapescope.manager.hooks import SubmitHook
from tapescope.manager.manager import TaskManager
from tapescope.manager.ops import Op, Ops, ResourceOp
from tapescope.manager.rate_limit import RateLimit
from tapescope.manager.readiness import Check
from tapescope.manager.submission import Submission

__all__ = [
    "Check",
    "Op",
    "Ops",
    "RateLimit",
    "ResourceOp",
    "Submission",
    "SubmitHook",
    "TaskHandle",
    "TaskManager",
]
