"""The audit of a PostgreSQL store: every rule over one page of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tapescope.model import NO_TASK, RULES_OF_STORE, AuditPage, AuditRule, Violation
from tapescope.store import read_event
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._rows import as_task
from tapescope_adapters.postgres._schema import find_schema_faults

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["audit", "find_violations"]

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
"""The bounds of a key."""
_PAGE_EVENTS: Final = 20_000
"""Events of the tapes of a page of the audit, unless one tape is longer."""


async def audit(
    conn: Connection,
    schema: str,
    sql: Queries,
    after: int,
    limit: int,
    grace: int,
    patience: float,
) -> AuditPage:
    """A page of the audit, as of one moment: all its queries see the same snapshot."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        upto, checked, rows, more = (
            await conn.fetch(sql["audit_page"], after, limit, _PAGE_EVENTS, timeout=patience)
        )[0]
        found: list[Violation] = []
        if checked:
            found += await find_violations(conn, sql, after, upto, grace, patience)
        if after == 0:
            faults = await find_schema_faults(conn, schema, sql, patience)
            found += (Violation.found(AuditRule.SCHEMA_CHANGED, NO_TASK, one) for one in faults)
        # Behind the last task, and before the first one, there are no tapes.
        between = after or _LEAST, upto if more else _MOST
        orphans = await conn.fetch(sql["audit_orphan_events"], *between, timeout=patience)
        found += (Violation.found(AuditRule.ORPHAN_EVENTS, *facts) for facts in orphans)
    return AuditPage(checked, rows or 0, tuple(found), upto if more else None)


async def find_violations(
    conn: Connection, sql: Queries, after: int, upto: int, grace: int, patience: float
) -> list[Violation]:
    """Every rule over the tasks of ``after`` to ``upto``, in the transaction that is open."""
    found: list[Violation] = []
    for rule in AuditRule:
        if rule in RULES_OF_STORE or rule is AuditRule.BAD_ROW:
            continue
        own = (grace,) if rule is AuditRule.STUCK_RUNNING else ()
        query = sql[f"audit_{rule.value}"]
        broken = await conn.fetch(query, after, upto, *own, timeout=patience)
        found += (Violation.found(rule, *facts) for facts in broken)
    # What a reader cannot read is a bad row: so those that may not be readable are read.
    for row in await conn.fetch(sql["audit_bad_row"], after, upto, timeout=patience):
        if (task := as_task(row)).damage:
            found.append(Violation.found(AuditRule.BAD_ROW, task.task_id, task.damage))
    for of_tape in await conn.fetch(sql["audit_bad_event"], after, upto, timeout=patience):
        task_id, *event_row = of_tape
        if (event := read_event(*event_row)).damage:
            detail = f"event {event.seq} of its tape: {event.damage}"
            found.append(Violation.found(AuditRule.BAD_ROW, task_id, detail))
    return found
