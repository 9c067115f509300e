"""Many runs: ``TaskManager``, its worker and its heartbeat, and the handles on its tasks."""

from __future__ import annotations

from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.manager.ops import Op, Ops
from tapescope.manager.readiness import Check
from tapescope.manager.submission import Submission

__all__ = ["Check", "Op", "Ops", "Submission", "TaskHandle", "TaskManager"]
