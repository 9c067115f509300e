"""The heartbeat in a PostgreSQL schema: a row that another session holds delays no other row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import asyncpg

from tapescope.model import HeldLease
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._rows import as_lease

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["extend_leases"]

_LONGEST_WAIT: Final = 500
"""Milliseconds that a heartbeat waits for one row."""
_SHARE: Final = 12
"""It waits for no longer than this part of a lease: there shall be time for the others."""
_STUCK: Final = 2
"""Rows that are waited for in vain before the heartbeat is content with what it has."""


async def extend_leases(
    conn: Connection,
    sql: Queries,
    owner: str,
    lease: int,
    task_ids: Sequence[str] | None,
    patience: float,
) -> list[HeldLease]:
    """Extend running tasks of the owner, ``None`` for every one (docs/decisions/0020).

    First those whose rows are free, at once. A flush holds rows for a moment: what is left is
    waited for, one row at a time, and all that is free by then is taken with it. What a session
    holds for longer is the owner's as before, with the lease that it has.
    """
    if task_ids is None:
        running = await conn.fetch(sql["find_running"], owner, timeout=patience)
        task_ids = [task_id for (task_id,) in running]
    asked = list(task_ids)
    rows = await conn.fetch(sql["extend_leases"], owner, lease, asked, timeout=patience)
    held = {str(row["task_id"]): as_lease(row) for row in rows}
    if len(held) == len(asked):
        return list(held.values())
    rows = await conn.fetch(sql["read_leases"], owner, asked, timeout=patience)
    left = {str(row["task_id"]): as_lease(row) for row in rows}
    wait = str(max(1, min(_LONGEST_WAIT, lease // 1_000 // _SHARE)))
    stuck = 0
    while waited_for := next((id_ for id_ in left if id_ not in held), None):
        one = left.pop(waited_for)
        if stuck < _STUCK:
            try:
                rows = await conn.fetch(
                    sql["await_lease"], owner, lease, waited_for, wait, timeout=patience
                )
            except asyncpg.LockNotAvailableError:
                stuck += 1
            else:
                held |= {str(row["task_id"]): as_lease(row) for row in rows}
                rest = [id_ for id_ in left if id_ not in held]
                rows = await conn.fetch(sql["extend_leases"], owner, lease, rest, timeout=patience)
                held |= {str(row["task_id"]): as_lease(row) for row in rows}
                continue
        held[waited_for] = one._replace(extended=False)
    return list(held.values())
