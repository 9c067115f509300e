"""Messages to tasks in a SQLite file: in a connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tapescope.model import InboxRow, MessageResult, SendAnswer, SendRow, TaskStatus, Untaken, carry
from tapescope.store import encode
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import write_transaction

__all__ = ["find_untaken", "read_inbox", "send"]


def send(conn: sqlite3.Connection, sql: Queries, row: SendRow, now: int) -> SendAnswer | None:
    """Put a message into the inbox of its task, or say why not."""
    with write_transaction(conn):
        met = conn.execute(sql["find_receiver"], (row.task_id,)).fetchone()
        if met is None:
            return None
        key, op, status = met[0], met[1], carry(TaskStatus, met[2])
        there = conn.execute(sql["find_message"], (key, row.key)).fetchone()
        if there is not None:
            return SendAnswer(MessageResult.REPEATED, op, status, *there)
        if status.terminal:
            return SendAnswer(MessageResult.ENDED, op, status, 0)
        (waiting,) = conn.execute(sql["count_waiting"], (key, row.most)).fetchone()
        if waiting >= row.most:
            return SendAnswer(MessageResult.FULL, op, status, 0)
        asked = {"task": key, "key": row.key, "body": row.body, "now": now}
        ((n,),) = conn.execute(sql["add_message"], asked).fetchall()
        return SendAnswer(MessageResult.SENT, op, status, n)


def read_inbox(
    conn: sqlite3.Connection, sql: Queries, task_id: str, after: int, limit: int
) -> list[InboxRow] | None:
    """A page of a task's messages, by number."""
    met = conn.execute(sql["find_receiver"], (task_id,)).fetchone()
    if met is None:
        return None
    return [InboxRow(*row) for row in conn.execute(sql["read_inbox"], (met[0], after, limit))]


def find_untaken(conn: sqlite3.Connection, sql: Queries, task_ids: Sequence[str]) -> list[Untaken]:
    """Those of these tasks that have messages which they did not take."""
    asked = (encode(list(task_ids), "task_ids"),)
    return [Untaken(*row) for row in conn.execute(sql["find_untaken"], asked)]
