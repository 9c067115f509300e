"""The repair of one task in a PostgreSQL store, in one transaction with the audit of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapescope.model import AuditRule, Mended
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._maintenance import find_violations
from tapescope_adapters.postgres._rows import as_repair

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection, Connector

__all__ = ["repair"]


class _TakenBackError(Exception):
    """Ends the transaction of a dry run, and carries out of it what was seen there."""

    def __init__(self, mended: Mended) -> None:
        self.mended = mended
        super().__init__("a dry run")


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
                for found in await find_violations(conn, sql, key - 1, key, grace, patience)
                if not (stuck and found.rule is AuditRule.STUCK_RUNNING)
            )
            mended = Mended(repairs, left)
            if dry_run:
                raise _TakenBackError(mended)
            return mended
    except _TakenBackError as dry:
        return dry.mended
