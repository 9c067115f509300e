"""Whose turn the upkeep of a SQLite file is; used in a connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tapescope.codec import encode
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope_adapters._sql import Queries

__all__ = ["acquire", "find_open", "record", "resign"]


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


def find_open(
    conn: sqlite3.Connection, sql: Queries, after: int, among: Sequence[int], limit: int
) -> tuple[int, list[int]]:
    """The highest key, and the keys of tasks that have not ended, as of one moment."""
    asked = {"after": after, "among": encode(list(among), "among"), "limit": limit}
    conn.execute("BEGIN")
    try:
        top: int = conn.execute(sql["find_top"]).fetchone()[0]
        return top, [key for (key,) in conn.execute(sql["find_open"], asked)]
    finally:
        conn.execute("COMMIT")
