"""The tasks of engines in a SQLite file; in a connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tapescope.store import encode
from tapescope_adapters._sql import Queries

__all__ = ["count_overdue", "note_confirmed", "read_store_id"]


def read_store_id(conn: sqlite3.Connection, sql: Queries) -> str:
    """What names this store among all."""
    found: str = conn.execute(sql["read_store_id"]).fetchone()[0]
    return found


def note_confirmed(
    conn: sqlite3.Connection, sql: Queries, task_ids: Sequence[str], at: int
) -> None:
    """An engine has these tasks, and is asked again from ``at`` on."""
    asked = {"task_ids": encode(list(task_ids), "task_ids"), "at": at}
    conn.execute(sql["note_confirmed"], asked)


def count_overdue(
    conn: sqlite3.Connection, sql: Queries, engine: str, before: int, limit: int
) -> tuple[int, int | None]:
    """How many tasks an engine should have been asked about by then, and since when the first."""
    asked = {"engine": engine, "before": before, "limit": limit}
    count, since = conn.execute(sql["count_overdue"], asked).fetchone()
    return count, since
