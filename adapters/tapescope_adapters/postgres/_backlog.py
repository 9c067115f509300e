"""The numbers of what waits and runs in a PostgreSQL store (docs/decisions/0052)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapescope.model import Backlog, BacklogCount, Pause, Repair, make_backlog
from tapescope.store import decode
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._rows import Row, as_repair

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection, Connector

__all__ = ["as_backlog", "as_count", "mend"]

_COUNTS = (
    *("due", "scheduled", "retrying", "running", "held"),
    *("succeeded", "failed", "cancelled", "gone"),
)
"""The numbers of an op, as read_backlog has them behind its name."""


class _TakenBackError(Exception):
    """Ends the transaction of a dry run, and carries out of it what was seen there."""

    def __init__(self, repairs: list[Repair]) -> None:
        self.repairs = repairs
        super().__init__("a dry run")


def as_backlog(text: str, paused: str, unserved: str) -> Backlog:
    """The answers of ``read_backlog``, ``read_pauses`` and ``read_unserved``."""
    made_at, now, rows = decode(text)
    counts: dict[str, dict[str, int]] = {}
    first_due: dict[str, int | None] = {}
    since: dict[str, int | None] = {}
    workers: dict[str, int] = {}
    registered: dict[str, float | None] = {}
    for op, *numbers, due_at, running_since, able, known, timeout in rows:
        counts[op] = dict(zip(_COUNTS, numbers, strict=True))
        first_due[op], since[op], workers[op] = due_at, running_since, able
        if known:
            registered[op] = timeout
    return make_backlog(
        made_at,
        now,
        counts,
        first_due=first_due,
        running_since=since,
        workers=workers,
        registered=registered,
        paused={op: Pause(op, *rest) for op, *rest in decode(paused)},
        unserved=dict(decode(unserved)),
    )


def as_count(row: Row) -> BacklogCount:
    """A row of ``recount_backlog``."""
    return BacklogCount(row["op"], row["state"], row["kept"], row["found"])


async def mend(
    conn: Connection, sql: Queries, by: str, connector: Connector, *, dry_run: bool
) -> list[Repair]:
    """Set the numbers to a count of the tasks, where they differ; a dry run takes it back."""
    try:
        async with conn.transaction():
            rows = await conn.fetch(sql["mend_backlog"], by, timeout=connector.patience)
            repairs = [as_repair(row) for row in rows]
            if dry_run:
                raise _TakenBackError(repairs)
            return repairs
    except _TakenBackError as dry:
        return dry.repairs
