"""The repair of a task in a SQLite file; used in a connection's thread.

This is the one place that goes past the guards. It takes those in its way off, and puts them back,
inside one transaction: no other connection sees the file without them, a crash brings them back,
and there is no switch that another session could set.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator

from tapescope.model import (
    TAPE_OPEN,
    TAPE_UNKNOWN,
    AuditRule,
    DropReason,
    Mended,
    Repair,
    Task,
    TaskStatus,
    carry,
)
from tapescope.store import (
    EventRow,
    RepairEntry,
    describe_lease,
    encode,
    is_stuck,
    mend_tape,
    read_repair,
)
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import write_transaction
from tapescope_adapters.sqlite._maintenance import find_violations
from tapescope_adapters.sqlite._rows import get_task

__all__ = ["read_repairs", "repair"]


def repair(
    conn: sqlite3.Connection,
    sql: Queries,
    task_id: str,
    grace: int,
    now: int,
    by: str,
    dry_run: bool,
) -> Mended | None:
    """Mend one task; see the port's ``repair``."""
    with write_transaction(conn):
        task = get_task(conn, sql, task_id)
        if task is None:
            return None
        guards = conn.execute(sql["find_guards"]).fetchall()
        for name, _ in guards:
            conn.execute(f"DROP TRIGGER {name}")
        entries = list(_mend(conn, sql, task, grace, now))
        for _, text in guards:
            conn.execute(text)
        mended = tuple(
            Repair(
                one.rule,
                task_id,
                one.was,
                one.done,
                now,
                by,
                _log_repair(conn, sql, now, by, task, one),
            )
            for one in entries
        )
        page = {"after": task.key - 1, "upto": task.key, "now": now, "grace": grace}
        stuck = any(one.rule is AuditRule.STUCK_RUNNING for one in entries)
        left = tuple(
            found
            for found in find_violations(conn, sql, page)
            if not (stuck and found.rule is AuditRule.STUCK_RUNNING)
        )
        if dry_run or not mended:
            conn.execute("ROLLBACK")  # the guards were taken off for it
        return Mended(mended, left)


def read_repairs(conn: sqlite3.Connection, sql: Queries, after: int, limit: int) -> list[Repair]:
    """A page of the repair log."""
    return [read_repair(*row) for row in conn.execute(sql["read_repairs"], (after, limit))]


def _log_repair(
    conn: sqlite3.Connection, sql: Queries, now: int, by: str, task: Task, one: RepairEntry
) -> int:
    was, done = encode(one.was, "was"), encode(one.done, "done")
    row = (now, by, one.rule.value, task.task_id, was, done)
    return conn.execute(sql["log_repair"], row).lastrowid or 0


def _mend(
    conn: sqlite3.Connection, sql: Queries, task: Task, grace: int, now: int
) -> Iterator[RepairEntry]:
    owner = task.owner or ""
    end = [
        EventRow._make((*row, owner)) for row in conn.execute(sql["read_end"], {"task": task.key})
    ]
    last = conn.execute(sql["read_last"], (task.key,)).fetchone()
    mend = mend_tape(task, end, None if last is None else EventRow._make((*last, owner)), now)
    status = task.status.value
    if mend.row is not None:
        status = mend.row.status
    ended = status if carry(TaskStatus, status).terminal else TAPE_OPEN
    for row, reason in mend.taken:
        late = row.ts - end[0].ts
        conn.execute(
            sql["keep_taken"],
            (task.task_id, row.attempt, row.offer, row.type, reason.value, row.ts, late, row.body),
        )
        counted = (task.task_id, row.attempt, reason.value, row.type, ended, 1, row.offer)
        conn.execute(sql["count_drops"], (encode([counted], "drops"),))
        conn.execute(sql["take_event"], (task.key, row.seq))
    if mend.row is not None:
        conn.execute(sql["correct_row"], (*mend.row, task.key))
    if mend.final is not None:
        conn.execute(sql["restore_final"], mend.final[:7])
    yield from mend.entries
    yield from _mend_counts(conn, sql, task.task_id, ended)
    if mend.row is None and is_stuck(task, now, grace):
        conn.execute(sql["end_lease"], (task.key,))
        done = {"attempt": task.attempt}
        yield RepairEntry(AuditRule.STUCK_RUNNING, describe_lease(task), done)


def _mend_counts(
    conn: sqlite3.Connection, sql: Queries, task_id: str, ended: str
) -> Iterator[RepairEntry]:
    """Count at least what is kept, where a reason's count is less or cannot be."""
    counts = conn.execute(sql["read_counts"], (task_id,)).fetchall()
    kept: defaultdict[str, dict[tuple[int, str], tuple[int, int]]] = defaultdict(dict)
    for reason, attempt, type_, n, last_offer in conn.execute(sql["read_kept"], (task_id,)):
        kept[reason][attempt, type_] = n, last_offer
    for reason in sorted({row[1] for row in counts} | kept.keys()):
        mine = [row for row in counts if row[1] == reason]
        in_all = sum(n for n, _ in kept[reason].values())
        if in_all <= sum(row[4] for row in mine) and all(row[4] > 0 for row in mine):
            continue
        conn.execute(sql["forget_impossible"], (task_id, reason))
        total = sum(row[4] for row in mine if row[4] > 0)
        outcome = TAPE_UNKNOWN if reason == DropReason.UNKNOWN_TASK else ended
        for (attempt, type_), (n, last_offer) in kept[reason].items():
            counted = sum(
                row[4] for row in mine if (row[0], row[2]) == (attempt, type_) and row[4] > 0
            )
            if n > counted:
                more = (task_id, attempt, reason, type_, outcome, n - counted, last_offer)
                conn.execute(sql["count_drops"], (encode([more], "drops"),))
                total += n - counted
        names = ("attempt", "reason", "type", "outcome", "n", "last_offer")
        was = [dict(zip(names, row, strict=True)) for row in mine]
        done = {"reason": reason, "counted": total}
        yield RepairEntry(AuditRule.DROPPED_COUNT_MISMATCH, was, done)
