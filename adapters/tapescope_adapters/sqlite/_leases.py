"""Leases and rescues in the database thread: rare, so a statement a task will do."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tapescope.model import (
    ATTEMPT_FAILED,
    FINAL,
    HeldLease,
    RescueResult,
    Task,
)
from tapescope.store import RescuedRow, RescueOrder, encode, read_cancel
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import blames_row, write_transaction
from tapescope_adapters.sqlite._rows import find_lost

__all__ = ["extend_leases", "let_go", "read_owners", "rescue"]


def extend_leases(
    conn: sqlite3.Connection, sql: Queries, owner: str, until: int, task_ids: Sequence[str] | None
) -> list[HeldLease]:
    """Extend running tasks of the owner, ``None`` for every one."""
    if task_ids is None:
        task_ids = [task_id for (task_id,) in conn.execute(sql["find_running"], (owner,))]
    asked = encode(list(task_ids), "task_ids")
    rows = conn.execute(sql["extend_leases"], (until, asked, owner)).fetchall()
    return [
        HeldLease(task_id, attempt, read_cancel(*on_record))
        for task_id, attempt, *on_record in rows
    ]


def let_go(conn: sqlite3.Connection, sql: Queries, asked: tuple[int, str, int, str]) -> None:
    """End the lease of (now, task id, attempt, owner), if it waits for that owner."""
    conn.execute(sql["let_go"], asked)


def read_owners(conn: sqlite3.Connection, sql: Queries) -> list[str]:
    """The owners of the tasks that run, and of those that one owner alone can run."""
    return [owner for (owner,) in conn.execute(sql["read_owners"])]


def rescue(
    conn: sqlite3.Connection, sql: Queries, order: RescueOrder, now: int
) -> list[RescuedRow]:
    """Take tasks from lost owners, in one transaction.

    One that its tape's guards keep from it is passed over, for the audit to find.
    """
    if not find_lost(conn, sql, order, 0, now, 1):
        return []  # the write lock is not taken for nothing
    rescued: list[RescuedRow] = []
    after = 0
    with write_transaction(conn):
        while lost := find_lost(conn, sql, order, after, now, order.limit - len(rescued)):
            rescued += filter(None, (_rescue_one(conn, sql, order, task, now) for task in lost))
            after = lost[-1].key
    return rescued


def _rescue_one(
    conn: sqlite3.Connection, sql: Queries, order: RescueOrder, task: Task, now: int
) -> RescuedRow | None:
    result = order.judge(task)
    type_ = ATTEMPT_FAILED if result is RescueResult.RETRIED else FINAL
    conn.execute("SAVEPOINT one")
    try:
        body = order.body(task, result)
        conn.execute(sql["append_by_another"], (type_, order.ts, body, task.key))
        if result is RescueResult.RETRIED:
            lost = (None, None, now, now, 1, task.key, task.attempt, task.owner)
            conn.execute(sql["give_up_task"], lost)
    except Exception as error:
        if not blames_row(error):  # a guard's, for one: a broken task must not keep the others
            raise
        conn.execute("ROLLBACK TO one")
        return None
    finally:
        if conn.in_transaction:
            conn.execute("RELEASE one")
    last_seq = conn.execute(sql["last_seq"], (task.key,)).fetchone()[0]
    return RescuedRow(task, result, last_seq)
