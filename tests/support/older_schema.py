"""A store as the version before left it: without the last migration, and what that one made."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tapescope_adapters.sqlite._schema import read_migrations
from tests.support.postgres_sessions import session

__all__ = ["take_migration_off"]


async def take_migration_off(url: str) -> None:
    """Take the last migration back; the tasks stay."""
    last = max(read_migrations())
    if url.startswith("postgresql"):
        async with session(url) as raw:
            await raw.execute("DROP FUNCTION count_moves() CASCADE")  # its triggers, too
            await raw.execute("DROP TABLE backlog, backlog_moves, backlog_snapshot, workers")
            for table in ("schema_version", "schema_compatibility"):
                await raw.execute(f"DELETE FROM {table} WHERE version = $1", last)
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
        conn.execute("DELETE FROM schema_compatibility WHERE version = ?", (last,))
        conn.execute(f"PRAGMA user_version = {last - 1}")
