"""The audit and the retention of a SQLite store; used in a connection's thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tapescope.model import (
    NO_TASK,
    RULES_OF_STORE,
    AuditPage,
    AuditRule,
    StoreSize,
    Violation,
)
from tapescope.store import DueDrop, DueTask, encode
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import read_transaction, write_transaction
from tapescope_adapters.sqlite._read_access import log_size
from tapescope_adapters.sqlite._rows import find_bad_rows
from tapescope_adapters.sqlite._schema import find_schema_faults

__all__ = [
    "audit",
    "delete_drops",
    "delete_tasks",
    "due_drops",
    "due_tasks",
    "find_damage",
    "find_open",
    "find_violations",
    "read_size",
    "shrink",
]

_PAGE_EVENTS: Final = 20_000
"""Events of the tapes of a page of the audit, unless one tape is longer."""
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
"""The bounds of a key."""
_KEPT_FREE: Final = 4
"""One page of so many stays free: the tasks that come would only take them again."""
_GIVEN_BACK: Final = 32
"""Pages at the most that are given back at once: the writers wait meanwhile."""
_INCREMENTAL: Final = 2
"""``PRAGMA auto_vacuum`` of a file that can shrink."""


def read_size(conn: sqlite3.Connection, sql: Queries, path: str | None) -> StoreSize:
    """How large the file at ``path`` is, the disk that it is on, and the quarantine in it."""
    quarantine, audited = conn.execute(sql["read_size"]).fetchone()
    audited = audited if isinstance(audited, int) else 0  # a raw session may have put anything
    if path is None:
        return StoreSize(quarantine=quarantine, audited_us=audited)
    (page,) = conn.execute("PRAGMA page_size").fetchone()
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    disk = os.statvfs(os.path.dirname(os.path.realpath(path)))
    told = bool(disk.f_blocks)  # some file systems do not tell
    usable = disk.f_blocks - disk.f_bfree + disk.f_bavail
    return StoreSize(
        log=log_size(path),
        file=os.stat(path).st_size,
        free=free * page,
        disk_free=disk.f_bavail * disk.f_frsize if told else None,
        disk=usable * disk.f_frsize if told else None,
        quarantine=quarantine,
        audited_us=audited,
    )


def audit(
    conn: sqlite3.Connection, sql: Queries, after: int, limit: int, grace: int, now: int
) -> AuditPage:
    """Every rule over one page of tasks, as of one moment."""
    with read_transaction(conn):
        upto, checked, rows, more = conn.execute(
            sql["audit_page"], {"after": after, "limit": limit, "events": _PAGE_EVENTS}
        ).fetchone()
        changed = find_schema_faults(conn) if after == 0 else []
        of_store = tuple(
            Violation.found(AuditRule.SCHEMA_CHANGED, NO_TASK, fault) for fault in changed
        )
        page: dict[str, Any] = {"after": after, "upto": upto, "now": now, "grace": grace}
        found = find_violations(conn, sql, page) if checked else []
        # Behind the last task, and before the first one, there are no tapes.
        between = {"begin": after or _LEAST, "end": upto if more else _MOST}
        of_store += tuple(
            Violation.found(AuditRule.ORPHAN_EVENTS, *facts)
            for facts in conn.execute(sql["audit_orphan_events"], between)
        )
    return AuditPage(checked, rows or 0, (*found, *of_store), upto if more else None)


def find_damage(conn: sqlite3.Connection) -> list[str]:
    """What is broken in the file itself, in SQLite's words; it reads the whole file.

    Indexes are compared with their tables. No more than a hundred faults are told.
    """
    try:
        found = conn.execute("PRAGMA integrity_check(100)").fetchall()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # it could not be read now
        return [str(error)]
    lines = [line for (text,) in found for line in str(text).splitlines()]
    return [] if lines == ["ok"] else [line for line in lines if not line.startswith("***")]


def find_violations(
    conn: sqlite3.Connection, sql: Queries, page: Mapping[str, Any]
) -> list[Violation]:
    """Every rule over the tasks of ``after`` to ``upto``, in the transaction that is open."""
    found = [
        Violation.found(rule, *facts)
        for rule in AuditRule
        if rule not in RULES_OF_STORE and rule is not AuditRule.BAD_ROW
        for facts in conn.execute(sql[f"audit_{rule.value}"], page)
    ]
    return found + [
        Violation.found(AuditRule.BAD_ROW, *facts) for facts in find_bad_rows(conn, sql, page)
    ]


def due_tasks(
    conn: sqlite3.Connection,
    sql: Queries,
    cutoff: int,
    outcomes: Sequence[str],
    op: str | None,
    after: int,
    limit: int,
) -> list[DueTask]:
    """A page of tasks, and which of them are due."""
    wanted = {
        "cutoff": cutoff,
        "outcomes": encode(list(outcomes), "outcomes"),
        "op": op,
        "after": after,
        "limit": limit,
    }
    rows = conn.execute(sql["due_tasks"], wanted)
    return [DueTask(key, bool(young), events) for key, young, events in rows]


def delete_tasks(conn: sqlite3.Connection, sql: Queries, keys: Sequence[int]) -> int:
    """Delete tasks with their tapes: one statement, so one transaction."""
    return conn.execute(sql["delete_tasks"], (encode(list(keys), "keys"),)).rowcount


def shrink(conn: sqlite3.Connection) -> int:
    """Shrink the file by a few pages where much of it is free; gives their number.

    None of a file that an older version made: there all is used again, and nothing given back.
    """
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    spare = min(free - pages // _KEPT_FREE, _GIVEN_BACK)
    if spare <= 0 or conn.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
        return 0
    # a step a page, and no rows: of what is not a script the driver takes the first step alone
    conn.executescript(f"PRAGMA incremental_vacuum({spare})")
    (left,) = conn.execute("PRAGMA freelist_count").fetchone()
    return max(0, int(free - left))


def due_drops(
    conn: sqlite3.Connection, sql: Queries, cutoff: int, after: int, limit: int
) -> list[DueDrop]:
    """A page of the quarantine, and which of it is due."""
    wanted = {"cutoff": cutoff, "after": after, "limit": limit}
    return [DueDrop(key, bool(due)) for key, due in conn.execute(sql["due_drops"], wanted)]


def delete_drops(conn: sqlite3.Connection, sql: Queries, keys: Sequence[int]) -> int:
    """Delete late events, and the counts that go with them."""
    these = (encode(list(keys), "keys"),)
    with write_transaction(conn):
        unknown = [task_id for (task_id,) in conn.execute(sql["unknown_drops"], these)]
        deleted = conn.execute(sql["delete_drops"], these).rowcount
        if unknown:
            conn.execute(sql["forget_unknown"], (encode(unknown, "unknown"),))
    return deleted


def find_open(
    conn: sqlite3.Connection, sql: Queries, after: int, among: Sequence[int], limit: int
) -> tuple[int, list[int]]:
    """The highest key, and the keys of tasks that have not ended, as of one moment."""
    asked = {"after": after, "among": encode(list(among), "among"), "limit": limit}
    with read_transaction(conn):
        top: int = conn.execute(sql["find_top"]).fetchone()[0]
        return top, [key for (key,) in conn.execute(sql["find_open"], asked)]
