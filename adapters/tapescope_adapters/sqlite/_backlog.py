"""The numbers of what waits and runs in a SQLite file; used in a connection's thread.

Triggers keep them (docs/decisions/0052). Here they are read, folded and mended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from tapescope.model import (
    NO_TASK,
    AuditRule,
    Backlog,
    BacklogCount,
    Repair,
    find_served,
    make_backlog,
    sum_states,
)
from tapescope.store import encode
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import read_transaction, write_transaction
from tapescope_adapters.sqlite._stops import list_pauses, read_names

__all__ = ["count_passed", "fold_passed", "mend", "read", "recount"]

_SECOND: Final = 1_000_000
_REMEMBERED: Final = 7 * 24 * 3_600 * _SECOND
"""Microseconds that an op is known after its last registration."""
_SOUGHT: Final = 200
"""Ops of which the first task that waits is looked for."""
_PAUSES: Final = 1_000
"""Paused ops that the numbers name."""
_STATES: Final = (
    *("due", "scheduled", "retrying", "running", "held"),
    *("succeeded", "failed", "cancelled"),
)
_ENDED: Final = ("succeeded", "failed", "cancelled")


def read(conn: sqlite3.Connection, sql: Queries, now: int) -> Backlog:
    """The numbers as of one moment."""
    with read_transaction(conn):
        counts = _read_counts(conn, sql, now)
        waiting = sorted(
            (op for op, count in counts.items() if count.get("due", 0) > 0),
            key=lambda op: (-counts[op]["due"], op),
        )
        ops = encode(waiting[:_SOUGHT], "ops")
        return make_backlog(
            now,
            now,
            counts,
            first_due=dict(conn.execute(sql["read_waits"], {"ops": ops})),
            running_since=dict(conn.execute(sql["read_running"])),
            workers=dict(conn.execute(sql["read_able"], (now,))),
            registered={
                op: timeout
                for op, timeout, *_ in conn.execute(sql["read_ops"], (now - _REMEMBERED,))
            },
            paused={pause.op: pause for pause in list_pauses(conn, sql, "", _PAUSES)},
            unserved=_find_unserved(conn, sql, now),
        )


def _find_unserved(conn: sqlite3.Connection, sql: Queries, now: int) -> dict[str, list[str]]:
    """By op the queues in which a task is due and that no worker takes; asked of the ops that some
    worker has and none has from all queues."""
    told = conn.execute(sql["read_taken"], (now,)).fetchall()
    served = find_served(
        (read_names(ops), None if queues is None else read_names(queues)) for ops, queues in told
    )
    found: dict[str, list[str]] = {}
    for op in sorted(served)[:_SOUGHT]:
        asked = {"op": op, "taken": encode(list(served[op]), "queues"), "now": now}
        if left := [queue for (queue,) in conn.execute(sql["find_unserved"], asked)]:
            found[op] = left
    return found


def count_passed(conn: sqlite3.Connection, sql: Queries, now: int) -> int:
    """How many numbers ``fold_passed`` would take together."""
    passed: int = conn.execute(sql["count_passed"], {"passed": now // _SECOND}).fetchone()[0]
    return passed


def fold_passed(conn: sqlite3.Connection, sql: Queries, now: int) -> None:
    """Take together what has fallen due, so that there is no number for each second of the past."""
    with write_transaction(conn):
        passed = {"passed": now // _SECOND}
        conn.execute(sql["fold_passed"], passed)
        conn.execute(sql["forget_passed"], passed)


def recount(conn: sqlite3.Connection, sql: Queries, now: int) -> list[BacklogCount]:
    """Each number beside a count of the tasks, as of one moment."""
    with read_transaction(conn):
        return _recount(conn, sql, now)


def mend(
    conn: sqlite3.Connection, sql: Queries, now: int, by: str, *, dry_run: bool
) -> list[Repair]:
    """Set the numbers to a count of the tasks, where they differ."""
    with write_transaction(conn):
        counted = _recount(conn, sql, now)
        wrong = [one for one in counted if one.differs]
        if not wrong:
            return []
        for op in sorted({one.op for one in counted}):
            if (gone := _count_gone([one for one in counted if one.op == op])) > 0:
                conn.execute(sql["add_gone"], (op, gone))
        conn.execute(sql["forget_live"])
        conn.execute(sql["fill_backlog"])
        was = [{"op": one.op, "state": one.state, "n": one.kept} for one in wrong]
        counts = [{"op": one.op, "state": one.state, "n": one.found} for one in wrong]
        done = {"numbers": len(wrong), "counts": counts}
        row = (now, by, encode(was, "was"), encode(done, "done"))
        number = conn.execute(sql["log_mended"], row).lastrowid or 0
        if dry_run:
            conn.execute("ROLLBACK")
        return [Repair(AuditRule.BACKLOG_MISMATCH, NO_TASK, was, done, now, by, number)]


def _count_gone(counted: Sequence[BacklogCount]) -> int:
    """How many tasks of an op were counted, and neither live nor were counted as ended."""
    gone = 0
    for one in counted:
        if one.state in _ENDED:
            gone += min(one.kept - one.found, 0)
        elif one.state != "held":
            gone += one.kept - one.found
    return gone


def _read_counts(conn: sqlite3.Connection, sql: Queries, now: int) -> dict[str, dict[str, int]]:
    rows = conn.execute(sql["read_numbers"], {"passed": now // _SECOND})
    return sum_states({(op, state, bool(ready)): n for op, state, ready, n in rows})


def _recount(conn: sqlite3.Connection, sql: Queries, now: int) -> list[BacklogCount]:
    kept = _read_counts(conn, sql, now)
    found: dict[str, dict[str, int]] = {}
    for op, state, n in conn.execute(sql["recount_backlog"], {"passed": now // _SECOND}):
        found.setdefault(op, {})[state] = n
    none: dict[str, int] = {}
    return [
        BacklogCount(op, state, kept.get(op, none).get(state, 0), found.get(op, none).get(state, 0))
        for op in sorted({*kept, *found})
        for state in _STATES
    ]
