"""Whose turn the upkeep of a SQLite file is; used in a connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tapescope._json import encode
from tapescope._turns import Chore, Turn
from tapescope_adapters._sql import Queries

__all__ = ["find_open", "leave", "note", "take"]


def take(conn: sqlite3.Connection, sql: Queries, owner: str, now: int, lease: int) -> Turn | None:
    """Have the turn for ``lease`` microseconds, unless it is somebody else's."""
    asked = {"owner": owner, "now": now, "lease": lease}
    rows = conn.execute(sql["take_turn"], asked).fetchall()
    return Turn(*rows[0]) if rows else None


def note(conn: sqlite3.Connection, sql: Queries, owner: str, now: int, chore: Chore) -> None:
    """Have it on record that something was done."""
    conn.execute(sql[f"note_{chore}"], {"owner": owner, "now": now})


def leave(conn: sqlite3.Connection, sql: Queries, owner: str) -> None:
    """Let somebody else have the turn."""
    conn.execute(sql["leave_turn"], {"owner": owner})


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
