"""A store as version 5 left it: without the migrations since, and what those made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from tests.support.postgres_sessions import session

__all__ = ["take_migration_off"]

_VERSION: Final = 5
"""The last one without tables of its own that a test could count on."""


_CONTEXT: Final = ("tags", "parent_id", "cancel_with_parent")


async def take_migration_off(url: str) -> None:
    """Take the migrations from 0006 on back; the tasks stay."""
    if url.startswith("postgresql"):
        async with session(url) as raw:
            await raw.execute("DROP FUNCTION count_moves() CASCADE")  # its triggers, too
            await raw.execute(
                "DROP TABLE backlog, backlog_moves, backlog_snapshot, workers,"
                " attempts_traced, schedules, pauses, tagged, messages"
            )
            await raw.execute(
                "ALTER TABLE maintenance DROP COLUMN firing_holder, DROP COLUMN firing_until"
            )
            # with the trigger that guards it, which the migration makes again
            await raw.execute("ALTER TABLE tasks DROP COLUMN cancel_traceparent CASCADE")
            await raw.execute("ALTER TABLE tasks DROP COLUMN priority")  # with its index
            await raw.execute("DROP FUNCTION note_tags() CASCADE")  # its triggers, too
            for column in _CONTEXT:  # with its indexes and what guards it
                await raw.execute(f"ALTER TABLE tasks DROP COLUMN {column} CASCADE")
            for column in ("unique_key", "concurrency_key", "parked_at"):
                await raw.execute(f"ALTER TABLE tasks DROP COLUMN {column} CASCADE")
            for what in ("slots", "rate"):
                await raw.execute(f"DROP TRIGGER ops_change_{what} ON ops")
            for column in ("max_concurrent", "rate_times", "rate_per_us"):
                await raw.execute(f"ALTER TABLE ops DROP COLUMN {column}")
            await raw.execute("DROP TABLE limits, limit_looks, limit_starts")
            for column in ("engine", "confirm_at"):  # with its indexes
                await raw.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
            await raw.execute("ALTER TABLE maintenance DROP COLUMN store_id")
            for column in ("priority", "queue", "max_waiting", "expires_s"):
                await raw.execute(f"ALTER TABLE ops DROP COLUMN {column}")
            for column in ("queue", "expires_in"):  # with their indexes
                await raw.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
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
        for name in ("tasks_take_their_traces", "tasks_take_their_messages", "events_take_message"):
            conn.execute(f"DROP TRIGGER {name}")
        for name in ("keep_context", "are_tagged", "take_their_tags", "tags_are_a_list"):
            conn.execute(f"DROP TRIGGER tasks_{name}")
        for index in ("tasks_follow", "tasks_parent"):
            conn.execute(f"DROP INDEX {index}")
        for column in _CONTEXT:
            conn.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
        tables = ("attempts_traced", "schedules", "pauses", "tagged", "messages")
        for table in ("backlog", "workers", *tables):
            conn.execute(f"DROP TABLE {table}")
        conn.execute("ALTER TABLE tasks DROP COLUMN cancel_traceparent")
        for trigger in (
            *("tasks_unique_key_is_free", "tasks_keep_unique_key", "tasks_keep_concurrency_key"),
            *("tasks_begin_parked", "tasks_parked_is_not_due"),
            *("tasks_hold_slot_new", "tasks_hold_slot", "tasks_free_slot"),
            *("tasks_free_slot_deleted", "tasks_look_when_due", "ops_change_slots"),
            *("tasks_give_start", "tasks_begin_start", "tasks_take_start_back"),
            "tasks_take_start_deleted",
        ):
            conn.execute(f"DROP TRIGGER {trigger}")
        for table in ("limits", "limit_looks", "limit_starts"):
            conn.execute(f"DROP TABLE {table}")
        for index in ("tasks_unique_key_open", "tasks_parked"):
            conn.execute(f"DROP INDEX {index}")
        conn.execute("DROP INDEX tasks_expiring")
        for column in ("unique_key", "parked_at", "concurrency_key", "expires_in"):
            conn.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
        for column in ("max_concurrent", "max_waiting", "expires_s", "rate_times", "rate_per_us"):
            conn.execute(f"ALTER TABLE ops DROP COLUMN {column}")
        for index in ("tasks_due_op", "tasks_due_queue", "tasks_to_confirm"):
            conn.execute(f"DROP INDEX {index}")
        for column in ("engine", "confirm_at"):
            conn.execute(f"ALTER TABLE tasks DROP COLUMN {column}")
        for table in ("tasks", "ops"):
            for column in ("priority", "queue"):
                conn.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        conn.execute("CREATE INDEX tasks_due_op ON tasks (op, run_at) WHERE status = 'pending'")
        for column in ("firing_holder", "firing_until", "store_id"):
            conn.execute(f"ALTER TABLE maintenance DROP COLUMN {column}")
        conn.execute("DELETE FROM schema_compatibility WHERE version > ?", (_VERSION,))
        conn.execute(f"PRAGMA user_version = {_VERSION}")
