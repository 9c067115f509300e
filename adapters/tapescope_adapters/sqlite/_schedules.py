"""Schedules in a SQLite file: their rows, and who fires."""

from __future__ import annotations

import sqlite3

from tapescope.model import Schedule
from tapescope.store import read_schedule, write_schedule
from tapescope_adapters._sql import Queries

__all__ = [
    "acquire",
    "add",
    "change",
    "find_next",
    "get",
    "list_all",
    "list_due",
    "remove",
    "resign",
]


def add(conn: sqlite3.Connection, sql: Queries, row: Schedule) -> bool:
    """Insert a row, unless there is one of its name."""
    return bool(conn.execute(sql["add_schedule"], write_schedule(row)).fetchall())


def change(conn: sqlite3.Connection, sql: Queries, row: Schedule) -> bool:
    """Write a row, if it has the revision that was seen."""
    name, *columns, _, revision = write_schedule(row)
    return bool(conn.execute(sql["change_schedule"], (*columns, name, revision)).fetchall())


def remove(conn: sqlite3.Connection, sql: Queries, name: str) -> bool:
    """Delete a row."""
    return bool(conn.execute(sql["remove_schedule"], (name,)).fetchall())


def get(conn: sqlite3.Connection, sql: Queries, name: str) -> Schedule | None:
    """The row of a name."""
    rows = conn.execute(sql["get_schedule"], (name,)).fetchall()
    return read_schedule(*rows[0]) if rows else None


def list_all(conn: sqlite3.Connection, sql: Queries, after: str, limit: int) -> list[Schedule]:
    """A page, by name."""
    return [read_schedule(*row) for row in conn.execute(sql["list_schedules"], (after, limit))]


def list_due(
    conn: sqlite3.Connection, sql: Queries, now: int, after: tuple[int, str], limit: int
) -> list[Schedule]:
    """A page of those that are due, by their times."""
    rows = conn.execute(sql["list_due_schedules"], (now, *after, limit))
    return [read_schedule(*row) for row in rows]


def find_next(conn: sqlite3.Connection, sql: Queries, after: int) -> int | None:
    """The first firing time after a moment."""
    rows = conn.execute(sql["next_schedule"], (after,)).fetchall()
    return rows[0][0] if rows else None


def acquire(conn: sqlite3.Connection, sql: Queries, owner: str, now: int, until: int) -> bool:
    """Be who fires, or go on to be."""
    asked = {"owner": owner, "now": now, "until": until, "furthest": 2 * until - now}
    return bool(conn.execute(sql["acquire_firing"], asked).fetchall())


def resign(conn: sqlite3.Connection, sql: Queries, owner: str) -> None:
    """Be who fires no more."""
    conn.execute(sql["resign_firing"], (owner,))
