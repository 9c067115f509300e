"""A store as version 5 left it: without the migrations since, and what those made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from tests.support.postgres_sessions import session

__all__ = ["take_migration_off"]

_VERSION: Final = 5
"""The last one without tables of its own that a test could count on."""


async def take_migration_off(url: str) -> None:
    """Take the migrations from 0006 on back; the tasks stay."""
    if url.startswith("postgresql"):
        async with session(url) as raw:
            await raw.execute("DROP FUNCTION count_moves() CASCADE")  # its triggers, too
            await raw.execute(
                "DROP TABLE backlog, backlog_moves, backlog_snapshot, workers,"
                " attempts_traced, schedules, pauses"
            )
            await raw.execute(
                "ALTER TABLE maintenance DROP COLUMN firing_holder, DROP COLUMN firing_until"
            )
            # with the trigger that guards it, which the migration makes again
            await raw.execute("ALTER TABLE tasks DROP COLUMN cancel_traceparent CASCADE")
            await raw.execute("ALTER TABLE tasks DROP COLUMN priority")  # with its index
            await raw.execute("ALTER TABLE ops DROP COLUMN priority, DROP COLUMN queue")
            await raw.execute("ALTER TABLE tasks DROP COLUMN queue")  # with its index
            await raw.execute(
                "CREATE INDEX tasks_due_op ON tasks (op, run_at, id) WHERE status = 'pending'"
            )
            for table in ("schema_version", "schema_compatibility"):
                await raw.execute(f"DELETE FROM {table} WHERE version > {_VERSION}")
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        triggers = conn.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'tasks_count%'"
            " AND sql LIKE '%INTO backlog%'"
        ).fetchall()
        for (name,) in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        conn.execute("DROP TRIGGER tasks_take_their_traces")
        for table in ("backlog", "workers", "attempts_traced", "schedules", "pauses"):
            conn.execute(f"DROP TABLE {table}")
        conn.execute("ALTER TABLE tasks DROP COLUMN cancel_traceparent")
        conn.execute("DROP INDEX tasks_due_op")
        conn.execute("DROP INDEX tasks_due_queue")
        for table in ("tasks", "ops"):
            for column in ("priority", "queue"):
                conn.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        conn.execute("CREATE INDEX tasks_due_op ON tasks (op, run_at) WHERE status = 'pending'")
        for column in ("firing_holder", "firing_until"):
            conn.execute(f"ALTER TABLE maintenance DROP COLUMN {column}")
        conn.execute("DELETE FROM schema_compatibility WHERE version > ?", (_VERSION,))
        conn.execute(f"PRAGMA user_version = {_VERSION}")
