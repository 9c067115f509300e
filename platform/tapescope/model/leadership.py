"""Leadership: of all the managers of a store, one at a time does the store's maintenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LeaderTerm", "MaintenanceJob"]

MaintenanceJob = Literal["audited", "pruned"]
"""A job of maintenance, as its record names it."""


@dataclass(frozen=True, slots=True)
class LeaderTerm:
    """What the leader learns when it acquires or renews its leadership.

    Times are integer microseconds since the Unix epoch, by the database's clock.
    """

    now: int
    audited_at: int
    """When the whole store was last audited; 0 for never."""
    pruned_at: int
    """When the store was last pruned; 0 for never."""

    def is_due(self, job: MaintenanceJob, every: float) -> bool:
        """Whether the job was last done ``every`` seconds ago or more, or never."""
        last = self.audited_at if job == "audited" else self.pruned_at
        return not last or self.now - last >= every * 1e6
