"""Leases in a PostgreSQL schema: the heartbeat, for which a row that another session holds delays
no other row; and rescues, of which no reply is lost for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from tapescope.model import HeldLease, RescueResult
from tapescope.store import FlushRefused, RescuedRow, RescueOrder, StoreAway, decode
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._flush import VOID
from tapescope_adapters.postgres._rows import as_lease, as_task

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection, Connector, SharedConnections

__all__ = ["Rescues", "extend_leases"]

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


class Rescues:
    """A store's rescues, one at a time, each with a number in a lane of its own.

    What became of one whose reply was lost is learned before the next: its number is spent, so
    that it is not carried out later, or it was carried out, and the lane has what it took
    (docs/decisions/0001, 0008).
    """

    def __init__(self, connector: Connector, sql: Queries, shared: SharedConnections) -> None:
        self._sql, self._shared = sql, shared
        self._rescue = connector.with_local_settings(sql["rescue_expired"])
        self._turn = asyncio.Lock()
        self._number = 0
        self._unanswered: RescueOrder | None = None
        """The order of the last number, until its answer is known."""
        self._lane = ""
        """Empty until there is one."""

    async def rescue(self, instance: str, session: str, order: RescueOrder) -> list[RescuedRow]:
        """See ``StoreBackend.rescue``. Raises ``StoreAway``, ``FlushRefused``."""
        lane = f"{instance}/rescues/{session}"
        async with self._turn:
            if (earlier := self._unanswered) is not None:
                rows = await self._learn(lane, earlier)
                if rows:
                    return rows  # at once: an error of another call would lose them again
            self._number += 1
            self._unanswered = order
            (row,) = await self._shared.fetch(
                self._rescue,
                order.limit,
                list(order.ops),
                list(order.dead_owners),
                order.ts,
                order.retry,
                order.failed,
                instance,
                lane,
                self._number,
            )
            rows = _read(row["rescued"])
            self._unanswered = None
            if rows:
                self._lane = lane
            return rows

    async def _learn(self, lane: str, earlier: RescueOrder) -> list[RescuedRow]:
        (row,) = await self._shared.fetch(self._sql["fence"], lane, self._number)
        self._unanswered, self._lane = None, lane
        text: str | None = row[0]
        return [] if text in (None, VOID) else _read(text, earlier)

    async def aclose(self) -> None:
        """Delete the lane."""
        if self._lane:
            # A row that is left goes when a store is opened a day later.
            with suppress(StoreAway, FlushRefused):
                await self._shared.fetch(self._sql["forget_lane"], self._lane)


def _read(text: str | None, earlier: RescueOrder | None = None) -> list[RescuedRow]:
    return [
        RescuedRow(as_task(task), RescueResult(result), last_seq, earlier)
        for result, last_seq, task in decode(text or "[]")
    ]
