"""Claims of due tasks in the database thread: a few statements, however many tasks they take."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from tapescope.model import KnownOp
from tapescope.store import DueOrder, DueRow, encode
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import write_transaction
from tapescope_adapters.sqlite._rows import read_claimed

__all__ = ["claim_due", "next_due", "read_ops", "register_ops"]

_NONE: Final = "[]"


def claim_due(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int) -> list[DueRow]:
    """Claim what is due, in one transaction. No reply is lost here: the number means nothing."""
    if _find(conn, sql, order, now, 1) == _NONE:
        return []  # the write lock is not taken for nothing
    with write_transaction(conn):
        keys = _find(conn, sql, order, now, order.limit)
        before, behind = order.started
        conn.execute(
            sql["claim_due"],
            {"keys": keys, "owner": order.owner, "now": now, "lease": order.lease},
        )
        conn.execute(
            sql["start_due"], {"keys": keys, "ts": order.ts, "before": before, "behind": behind}
        )
        claimed = read_claimed(conn, sql, keys)
    return [DueRow(task, task.attempt, seq) for task, seq in claimed]


def next_due(conn: sqlite3.Connection, sql: Queries, ops: Sequence[str]) -> int | None:
    """The earliest ``run_at`` of the pending tasks of these ops."""
    found: int | None = conn.execute(sql["next_due"], (encode(ops, "ops"),)).fetchone()[0]
    return found


def register_ops(conn: sqlite3.Connection, sql: Queries, ops: Sequence[KnownOp], now: int) -> None:
    """Note what a worker can run, in one statement."""
    told = encode([(known.op, known.timeout, known.retries) for known in ops], "ops")
    conn.execute(sql["register_ops"], {"ops": told, "now": now})


def read_ops(conn: sqlite3.Connection, sql: Queries, since: int) -> list[KnownOp]:
    """What was noted after ``since``."""
    return [KnownOp(*row) for row in conn.execute(sql["read_ops"], (since,))]


def _find(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int, limit: int) -> str:
    """The keys of the next due tasks, a JSON list."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "limit": limit}
    keys: str = conn.execute(sql["find_due"], asked).fetchone()[0]
    return keys
