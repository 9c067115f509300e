"""A store as it was before its backlog was counted: without migration 6, and what came after it.

What the later ones make is made anew, which each of them must bear.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.support.postgres_sessions import session

__all__ = ["take_migration_off"]

_BEFORE = 5


async def take_migration_off(url: str) -> None:
    """Take that migration back; the tasks stay."""
    if url.startswith("postgresql"):
        async with session(url) as raw:
            await raw.execute("DROP FUNCTION count_moves() CASCADE")  # its triggers, too
            await raw.execute("DROP TABLE backlog, backlog_moves, backlog_snapshot, workers")
            for table in ("schema_version", "schema_compatibility"):
                await raw.execute(f"DELETE FROM {table} WHERE version > $1", _BEFORE)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        triggers = conn.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'tasks_count%'"
            " AND sql LIKE '%INTO backlog%'"
        ).fetchall()
        for (name,) in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        for table in ("backlog", "workers"):
            conn.execute(f"DROP TABLE {table}")
        conn.execute("DELETE FROM schema_compatibility WHERE version > ?", (_BEFORE,))
        conn.execute(f"PRAGMA user_version = {_BEFORE}")
