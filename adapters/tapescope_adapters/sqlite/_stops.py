"""Paused ops, workers that drain, and who works, in a SQLite file: in a connection's thread."""

from __future__ import annotations

import sqlite3
from typing import cast

from tapescope.model import Drain, Pause, WorkerState
from tapescope.store import decode
from tapescope_adapters._sql import Queries

__all__ = [
    "drain",
    "find_drain",
    "list_pauses",
    "list_workers",
    "pause",
    "read_names",
    "resume",
    "undrain",
]


def list_workers(
    conn: sqlite3.Connection, sql: Queries, now: int, after: str, limit: int
) -> list[WorkerState]:
    """A page of who works, by owner."""
    asked = {"now": now, "after": after, "limit": limit}
    return [
        WorkerState(
            owner,
            read_names(ops),
            running,
            bool(is_worker),
            bool(alive),
            since,
            heard_at,
            None if drained_at is None else Drain(drained_at, by, reason or ""),
            None if queues is None else read_names(queues),
        )
        for owner, running, is_worker, alive, ops, queues, since, heard_at, *drained in (
            conn.execute(sql["list_workers"], asked)
        )
        for drained_at, by, reason in [drained]
    ]


def read_names(text: str | None) -> tuple[str, ...]:
    """The ops of a worker, or its queues; what was written past tapescope, and is not a list, has
    none."""
    try:
        names: object = decode(text or "[]")
    except ValueError:
        return ()
    if not isinstance(names, list):
        return ()
    return tuple(name for name in cast("list[object]", names) if isinstance(name, str))


def drain(
    conn: sqlite3.Connection, sql: Queries, owner: str, by: str | None, reason: str, now: int
) -> Drain | None:
    """Have a worker claim no more, if it is known."""
    asked = {"owner": owner, "by": by, "reason": reason, "now": now}
    rows = conn.execute(sql["drain_worker"], asked).fetchall()
    return Drain(*rows[0]) if rows else None


def undrain(conn: sqlite3.Connection, sql: Queries, owner: str) -> bool:
    """Have a worker claim again."""
    return bool(conn.execute(sql["undrain_worker"], (owner,)).fetchall())


def find_drain(conn: sqlite3.Connection, sql: Queries, owner: str) -> Drain | None:
    """The drain of a worker."""
    rows = conn.execute(sql["find_drain"], (owner,)).fetchall()
    return Drain(*rows[0]) if rows else None


def pause(
    conn: sqlite3.Connection, sql: Queries, op: str, by: str | None, reason: str, now: int
) -> Pause:
    """Have no worker claim tasks of an op."""
    asked = {"op": op, "by": by, "reason": reason, "now": now}
    (row,) = conn.execute(sql["pause_op"], asked).fetchall()
    return Pause(*row)


def resume(conn: sqlite3.Connection, sql: Queries, op: str) -> Pause | None:
    """Have the workers claim tasks of an op again."""
    rows = conn.execute(sql["resume_op"], (op,)).fetchall()
    return Pause(*rows[0]) if rows else None


def list_pauses(conn: sqlite3.Connection, sql: Queries, after: str, limit: int) -> list[Pause]:
    """A page of paused ops, by name."""
    return [Pause(*row) for row in conn.execute(sql["list_pauses"], (after, limit))]
