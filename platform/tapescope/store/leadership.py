"""Leadership on the port: which manager of many does the store's maintenance."""

from __future__ import annotations

from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.store.core import StoreCore
from tapescope.store.validation import check_seconds

__all__ = ["StoreLeadership"]


class StoreLeadership:
    """Elects the manager that looks after the store: a lease that one owner holds at a time."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def acquire(self, owner: str, lease: float) -> LeaderTerm | None:
        """Acquire or renew leadership for ``lease`` seconds; ``None`` while another owner leads.

        Raises ``BadSetting``.
        """
        lease = check_seconds("lease", lease, over_zero=True)
        core, length = self._core, round(lease * 1e6)
        return await core.change(
            "acquire_leadership", lambda: core.backend.acquire_leadership(owner, length)
        )

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        """Record that the job was done now, for the next leader to read.

        Records nothing when ``owner`` does not lead any more.
        """
        core = self._core
        await core.change("record_job", lambda: core.backend.record_job(owner, job))

    async def resign(self, owner: str) -> None:
        """Give up leadership, so that another owner can acquire it at once."""
        core = self._core
        await core.change("resign_leadership", lambda: core.backend.resign_leadership(owner))
