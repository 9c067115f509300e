"""The audit of a PostgreSQL store, every rule over one page of tasks, and the repair of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tapescope.model.audit import AuditPage, AuditRule, Violation
from tapescope.model.repairs import Mended
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._rows import as_repair

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection, Connector

__all__ = ["audit", "repair"]

_PAGE_EVENTS: Final = 20_000
"""Events of the tapes of a page of the audit, unless one tape is longer."""


class _TakenBackError(Exception):
    """Ends the transaction of a dry run, and carries out of it what was seen there."""

    def __init__(self, mended: Mended) -> None:
        self.mended = mended
        super().__init__("a dry run")


async def audit(
    conn: Connection, sql: Queries, after: int, limit: int, grace: int, patience: float
) -> AuditPage:
    """A page of the audit, as of one moment: all its queries see the same snapshot."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        upto, checked, rows, more = (
            await conn.fetch(sql["audit_page"], after, limit, _PAGE_EVENTS, timeout=patience)
        )[0]
        if not checked:
            return AuditPage(0, 0, (), None)
        found = await _find_violations(conn, sql, after, upto, grace, patience)
    return AuditPage(checked, rows, tuple(found), upto if more else None)


async def repair(
    conn: Connection,
    sql: Queries,
    task_id: str,
    grace: int,
    by: str,
    connector: Connector,
    *,
    dry_run: bool,
) -> Mended | None:
    """Mend one task, and look at it again, in one transaction; a dry run takes it back."""
    patience = connector.patience
    try:
        async with conn.transaction():
            find_key = connector.with_local_settings(sql["find_key"])
            row = await conn.fetchrow(find_key, task_id, timeout=patience)
            if row is None:
                return None
            key = row["id"]
            rows = await conn.fetch(sql["repair_task"], task_id, grace, by, timeout=patience)
            repairs = tuple(as_repair(row) for row in rows)
            stuck = any(one.rule is AuditRule.STUCK_RUNNING for one in repairs)
            left = tuple(
                found
                for found in await _find_violations(conn, sql, key - 1, key, grace, patience)
                if not (stuck and found.rule is AuditRule.STUCK_RUNNING)
            )
            mended = Mended(repairs, left)
            if dry_run:
                raise _TakenBackError(mended)
            return mended
    except _TakenBackError as dry:
        return dry.mended


async def _find_violations(
    conn: Connection, sql: Queries, after: int, upto: int, grace: int, patience: float
) -> list[Violation]:
    found: list[Violation] = []
    for rule in AuditRule:
        own = (grace,) if rule is AuditRule.STUCK_RUNNING else ()
        query = sql[f"audit_{rule.value}"]
        broken = await conn.fetch(query, after, upto, *own, timeout=patience)
        found += (Violation.found(rule, *facts) for facts in broken)
    return found
