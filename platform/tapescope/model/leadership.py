"""Leadership: one manager of many looks after a store at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LeaderTerm", "MaintenanceJob"]

MaintenanceJob = Literal["audited", "pruned"]
"""A job of maintenance, as its record names it."""


@dataclass(frozen=True, slots=True)
class LeaderTerm:
    """The caller is the leader. Times in microseconds since the epoch, by the database's clock."""

    now: int
    audited_at: int
    """When the whole store was last audited; 0 for never."""
    pruned_at: int

    def is_due(self, job: MaintenanceJob, every: float) -> bool:
        """Whether the job was never done, or last done ``every`` seconds ago or more."""
        last = self.audited_at if job == "audited" else self.pruned_at
        return not last or self.now - last >= every * 1e6
