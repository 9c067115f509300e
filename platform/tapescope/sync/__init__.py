"""The sync door: tasks for programs without an event loop, such as Django, Flask and scripts.

``SyncManager`` has the verbs of ``TaskManager``, as plain calls, from any thread. Its event loop
runs in a thread of its own, which begins with the first call.
"""

from __future__ import annotations

from tapescope.sync.handle import SyncHandle
from tapescope.sync.manager import ManagerSettings, SyncManager

__all__ = ["ManagerSettings", "SyncHandle", "SyncManager"]
