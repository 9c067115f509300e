"""Leadership in a SQLite file: one owner looks after the store at a time."""

from __future__ import annotations

import sqlite3

from tapescope.model import LeaderTerm, MaintenanceJob
from tapescope_adapters._sql import Queries

__all__ = ["acquire", "record", "resign"]


def acquire(
    conn: sqlite3.Connection, sql: Queries, owner: str, now: int, lease: int
) -> LeaderTerm | None:
    """Acquire or renew leadership; ``None`` while another owner leads."""
    asked = {"owner": owner, "now": now, "lease": lease}
    rows = conn.execute(sql["acquire_leadership"], asked).fetchall()
    return LeaderTerm(*rows[0]) if rows else None


def record(
    conn: sqlite3.Connection, sql: Queries, owner: str, now: int, job: MaintenanceJob
) -> None:
    """Record that a job was done."""
    conn.execute(sql[f"record_{job}"], {"owner": owner, "now": now})


def resign(conn: sqlite3.Connection, sql: Queries, owner: str) -> None:
    """Give up leadership."""
    conn.execute(sql["resign_leadership"], {"owner": owner})
