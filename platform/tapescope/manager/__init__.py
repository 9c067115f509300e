"""Many runs: ``TaskManager`` and its workers."""

from __future__ import annotations

from tapescope.manager.handle import TaskHandle
from tapescope.manager.manager import TaskManager
from tapescope.manager.submission import Submission

__all__ = ["Submission", "TaskHandle", "TaskManager"]
