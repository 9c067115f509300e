"""Leadership in the database: one owner looks after the store at a time."""

from __future__ import annotations

from tapescope.model import LeaderTerm, MaintenanceJob
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._connection import SharedConnections

__all__ = ["acquire", "record", "resign"]


async def acquire(
    shared: SharedConnections, sql: Queries, owner: str, lease: int
) -> LeaderTerm | None:
    """Acquire or renew leadership; ``None`` while another owner leads."""
    rows = await shared.fetch(sql["acquire_leadership"], owner, lease)
    return LeaderTerm(*rows[0]) if rows else None


async def record(shared: SharedConnections, sql: Queries, owner: str, job: MaintenanceJob) -> None:
    """Record that a job was done."""
    await shared.fetch(sql[f"record_{job}"], owner)


async def resign(shared: SharedConnections, sql: Queries, owner: str) -> None:
    """Give up leadership."""
    await shared.fetch(sql["resign_leadership"], owner)
