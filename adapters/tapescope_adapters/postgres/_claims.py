"""Claims of due tasks: calls on connections of their own, which no append holds up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from tapescope.store import (
    DueOrder,
    DueRow,
    FateUnknown,
    FlushBlocked,
    FlushRefused,
    StoreAway,
    decode,
)
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._connection import Connector, SharedConnections
from tapescope_adapters.postgres._rows import as_task

__all__ = ["Claims"]


_TELL_EXPIRED: Final = "!"
"""Among the ops of a claim: that what was met and has expired is told of."""


class Claims:
    """Each owner's calls are numbered in a lane of its own, as flushes are in theirs.

    A call that is sent again under its number, because its reply was lost, is answered with what
    the first try claimed (docs/decisions/0001, 0008).
    """

    def __init__(self, connector: Connector, sql: Queries) -> None:
        self._calls = SharedConnections(connector, writes=True)
        self._claim_due = connector.with_session_settings(sql["claim_due"])
        self._sql = sql
        self._lanes: set[str] = set()

    async def claim(self, session: str, order: DueOrder) -> Sequence[DueRow]:
        """What the order's call claims, or has claimed before. Raises as ``_write`` does."""
        lane = f"{session}/{order.owner}"
        self._lanes.add(lane)
        instance, _, _ = session.partition("/")
        (row,) = await self._calls.fetch(
            self._claim_due,
            lane,
            order.number,
            instance,
            order.owner,
            [*order.ops, _TELL_EXPIRED, *(f"/{queue}" for queue in order.queues or ())],
            order.limit,
            order.lease,
            order.ts,
            *order.started,
            order.again,
        )
        text: str | None = row[-1]
        rows: Sequence[Any] = [] if text is None else decode(text)
        return [_as_due_row(*row) for row in rows]

    async def aclose(self) -> None:
        """Delete the lanes and take leave of the server."""
        if self._lanes:
            # Rows that are left go when a store is opened a day later.
            with suppress(StoreAway, FateUnknown, FlushBlocked, FlushRefused):
                await self._calls.fetch(self._sql["forget_lanes"], list(self._lanes))
        await self._calls.aclose()


def _as_due_row(attempt: int, seq: int, task: Any) -> DueRow:
    """A row of the answer; the function says -1 of what it could not claim, and has ended, and 0
    of what has expired, and waits for its end."""
    found = as_task(task)
    if attempt == 0:
        return DueRow(found, 0, 0, expired=True)
    if attempt > 0:
        return DueRow(found, attempt, seq)
    why = found.damage or "its attempts or its tape are at an end"
    return DueRow(found, found.attempt, seq, refused=why)
