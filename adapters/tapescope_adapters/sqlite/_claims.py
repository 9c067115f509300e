"""Claims of due tasks in the database thread: a few statements, however many tasks they take."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from tapescope.model import FINAL, KnownOp
from tapescope.store import DueOrder, DueRow, decode, encode
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import (
    blames_row,
    reading_any_text,
    write_transaction,
)
from tapescope_adapters.sqlite._limits import admit_parked, has_look
from tapescope_adapters.sqlite._rows import read_claimed, read_claimed_row, read_row

__all__ = [
    "claim_due",
    "forget_worker",
    "next_due",
    "read_ops",
    "register_ops",
    "tell_worker",
]

_NONE: Final = "[]"
_MARKED: Final = re.compile(r"/\*of queues: (.*?)\*/")
"""What is part of a query where tasks are taken from some queues alone."""
_DEAD: Final = 3_600_000_000
"""Microseconds that the row of a worker is kept after its time."""


def claim_due(
    conn: sqlite3.Connection, sql: Queries, order: DueOrder, read_now: Callable[[], int]
) -> list[DueRow]:
    """Claim what is due, in one transaction. No reply is lost here: the number means nothing."""
    now = read_now()
    if _find(conn, sql, order, now, 1) == _NONE and not has_look(conn, sql, order, now):
        return []  # the write lock is not taken for nothing
    with write_transaction(conn):
        now = read_now()  # who had the lock until now began what it began before this time
        admit_parked(conn, sql, order, now)
        keys = _find(conn, sql, order, now, order.limit)
        expired: list[DueRow] = []
        if "-" in keys:
            over = [-key for key in decode(keys) if key < 0]
            expired = [DueRow(read_row(conn, sql, key), 0, 0, expired=True) for key in over]
            keys = encode([key for key in decode(keys) if key > 0], "keys")
            if keys == _NONE:
                return expired
        conn.execute("SAVEPOINT many")
        try:
            _claim(conn, sql, order, now, keys)
            claimed = read_claimed(conn, sql, keys)
        except Exception as error:
            if not blames_row(error):
                raise
            conn.execute("ROLLBACK TO many")
            with reading_any_text(conn):
                return _claim_singly(conn, sql, order, now) + expired
    return [DueRow(task, task.attempt, seq) for task, seq in claimed] + expired


def _claim(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int, keys: str) -> None:
    before, behind = order.started
    conn.execute(
        sql["claim_due"], {"keys": keys, "owner": order.owner, "now": now, "lease": order.lease}
    )
    conn.execute(
        sql["start_due"], {"keys": keys, "ts": order.ts, "before": before, "behind": behind}
    )


def _claim_singly(
    conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int
) -> list[DueRow]:
    """Claim one task after the other: the one that cannot be claimed keeps no other from it."""
    rows: list[DueRow] = []
    seen: set[int] = set()
    while len(rows) < order.limit:
        due: list[int] = decode(_find(conn, sql, order, now, order.limit + len(seen)))
        new = [key for key in due if key > 0 and key not in seen]
        if not new:
            break
        for key in new[: order.limit - len(rows)]:
            seen.add(key)
            if (row := _claim_one(conn, sql, order, now, key)) is not None:
                rows.append(row)
    return rows


def _claim_one(
    conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int, key: int
) -> DueRow | None:
    """Claim a task, or end it as failed; ``None`` for one whose tape takes no end: for the audit to
    find."""
    conn.execute("SAVEPOINT one")
    try:
        _claim(conn, sql, order, now, encode([key], "keys"))
        task, seq = read_claimed_row(conn, sql, key)
    except Exception as error:
        if not blames_row(error):
            raise
        conn.execute("ROLLBACK TO one")
        why = str(error)
    else:
        conn.execute("RELEASE one")
        return DueRow(task, task.attempt, seq)
    try:
        conn.execute(sql["append_by_another"], (FINAL, order.ts, order.failed, key))
        (seq,) = conn.execute(sql["last_seq"], (key,)).fetchone()
        task = read_row(conn, sql, key)
    except Exception as error:
        if not blames_row(error):
            raise
        conn.execute("ROLLBACK TO one")
        conn.execute("RELEASE one")
        return None
    conn.execute("RELEASE one")
    return DueRow(task, task.attempt, seq, refused=why)


def next_due(
    conn: sqlite3.Connection, sql: Queries, ops: Sequence[str], queues: Sequence[str] | None
) -> int | None:
    """The earliest ``run_at`` of the pending tasks of these ops."""
    text, asked = _choose_queues(sql["next_due"], queues)
    found: int | None = conn.execute(text, {"ops": encode(ops, "ops")} | asked).fetchone()[0]
    return found


def register_ops(conn: sqlite3.Connection, sql: Queries, ops: Sequence[KnownOp], now: int) -> None:
    """Note what a worker can run, in one statement."""
    told = encode(
        [
            (
                known.op,
                known.timeout,
                known.retries,
                known.priority,
                known.max_concurrent,
                known.queue,
                known.max_waiting,
                known.expires_in,
                known.rate_times,
                known.rate_per_us,
            )
            for known in ops
        ],
        "ops",
    )
    conn.execute(sql["register_ops"], {"ops": told, "now": now})


def tell_worker(
    conn: sqlite3.Connection,
    sql: Queries,
    owner: str,
    ops: Sequence[str],
    queues: Sequence[str] | None,
    now: int,
    lease: int,
) -> None:
    """Note that a worker lives, and what it can run."""
    taken = None if queues is None else encode(list(queues), "queues")
    told = {"owner": owner, "until": now + lease, "ops": encode(list(ops), "ops"), "now": now}
    told |= {"queues": taken}
    conn.execute(sql["tell_worker"], told)


def forget_worker(conn: sqlite3.Connection, sql: Queries, owner: str, now: int) -> None:
    """Note that a worker lives no more, nor those that said nothing for an hour."""
    conn.execute(sql["forget_worker"], (owner, now - _DEAD))


def read_ops(conn: sqlite3.Connection, sql: Queries, since: int) -> list[KnownOp]:
    """What was noted after ``since``."""
    return [KnownOp(*row) for row in conn.execute(sql["read_ops"], (since,))]


def _find(conn: sqlite3.Connection, sql: Queries, order: DueOrder, now: int, limit: int) -> str:
    """The keys of the next due tasks, a JSON list."""
    asked = {"ops": encode(order.ops, "ops"), "now": now, "limit": limit, "owner": order.owner}
    text, of_queues = _choose_queues(sql["find_due"], order.queues)
    keys: str = conn.execute(text, asked | of_queues).fetchone()[0]
    return keys


def _choose_queues(text: str, queues: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """The query for these queues, and its parameter; for all of them the query as it is."""
    if queues is None:
        return text, {}
    return _of_queues(text), {"queues": encode(list(queues), "queues")}


@cache
def _of_queues(text: str) -> str:
    return _MARKED.sub(r"\1", text).replace("tasks_due_op", "tasks_due_queue")
