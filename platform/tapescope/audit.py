"""The audit: whether the tapes in a store keep the invariants, and what is wrong where they do not.

The database's guards let none of these come about. The audit is for what goes round them: a
restored backup, a hand in the tables, a bug of ours, a broken disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadSetting

if TYPE_CHECKING:
    from tapescope.store import TaskStore

__all__ = [
    "AUDIT_GRACE",
    "AuditPage",
    "AuditReport",
    "AuditRule",
    "Violation",
    "audit_pages",
    "audit_store",
]

AUDIT_GRACE: Final = 60.0
"""Seconds after the end of its lease from which a task that still runs is stuck."""


class AuditRule(StrEnum):
    """What the audit looks for: a closed set, and a metric label."""

    MISSING_FINAL = "missing_final"
    """The row says that the task ended, and its tape has no ``final`` (I2)."""
    FINAL_NOT_LAST = "final_not_last"
    """The tape has a ``final`` and goes on after it (I1)."""
    MULTIPLE_FINAL = "multiple_final"
    """The tape has more than one ``final`` (I1)."""
    SEQUENCE_GAP = "sequence_gap"
    """The tape's ``seq`` is not 1, 2, 3 …, or a task that was claimed and lives has none (I3)."""
    OUTCOME_MISMATCH = "outcome_mismatch"
    """The row's status is not what the ``final`` says (I2)."""
    STUCK_RUNNING = "stuck_running"
    """The task runs, and nobody has held its lease for a while."""
    DROPPED_COUNT_MISMATCH = "dropped_count_mismatch"
    """More late events are kept than were counted, or a count is impossible (I7)."""


_DETAILS: Final = {
    AuditRule.MISSING_FINAL: "the row says {}, but none of the {} events of its tape is a final",
    AuditRule.FINAL_NOT_LAST: "event {} is a final, but the tape goes on to event {}",
    AuditRule.MULTIPLE_FINAL: "{} events are a final, the first is event {}, the last event {}",
    AuditRule.SEQUENCE_GAP: "the tape has {} events, numbered from {} to {}",
    AuditRule.OUTCOME_MISMATCH: "the row says {}, the final (event {}) says {}",
    AuditRule.STUCK_RUNNING: "attempt {} of owner {} runs, but its lease ended {:.0f} s ago",
    AuditRule.DROPPED_COUNT_MISMATCH: "of reason {} the quarantine holds {} events, counted are {}",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a task breaks, and how it shows."""

    rule: AuditRule
    task_id: str
    detail: str

    @classmethod
    def found(cls, rule: AuditRule, task_id: str, *facts: Any) -> Violation:
        """A violation with the facts that a store's query of that rule gives, in its order."""
        shown = ("nothing" if fact is None else fact for fact in facts)
        return cls(rule, task_id, _DETAILS[rule].format(*shown))


@dataclass(frozen=True, slots=True)
class AuditPage:
    """What one step of an audit found, as of one moment."""

    checked: int
    """Tasks looked at."""
    rows: int
    """Tasks and events read for it: what a rate is kept by."""
    violations: tuple[Violation, ...]
    next: int | None
    """Pass it as ``after`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit of the whole store found."""

    checked: int
    violations: tuple[Violation, ...]


async def audit_pages(
    store: TaskStore,
    *,
    grace: float = AUDIT_GRACE,
    rows_per_second: float | None = None,
    limit: int = 1_000,
) -> AsyncGenerator[AuditPage, None]:
    """Audit the whole store, ``limit`` tasks at a time, from the oldest to the newest.

    ``rows_per_second`` bounds what is read: after each page it waits until the rows so far are no
    more than that; ``None`` for no bound. What was created meanwhile is looked at, too. When the
    last page was given, the meter is told that an audit succeeded. Raises ``BadSetting`` and what
    ``TaskStore.audit`` raises.
    """
    if rows_per_second is not None and not rows_per_second > 0:
        raise BadSetting("rows_per_second", rows_per_second, "a number over 0, or None")
    began, rows, after = store.clock.monotonic(), 0, 0
    while True:
        page = await store.audit(after=after, limit=limit, grace=grace)
        yield page
        if page.next is None:
            break
        rows, after = rows + page.rows, page.next
        if rows_per_second is not None:
            ahead = rows / rows_per_second - (store.clock.monotonic() - began)
            await asyncio.sleep(max(0.0, ahead))
    store.meter.audit_succeeded(store.clock.now() / 1e6)


async def audit_store(
    store: TaskStore,
    *,
    grace: float = AUDIT_GRACE,
    rows_per_second: float | None = None,
    limit: int = 1_000,
) -> AuditReport:
    """``audit_pages`` to its end, as one report."""
    checked = 0
    violations: list[Violation] = []
    pages = audit_pages(store, grace=grace, rows_per_second=rows_per_second, limit=limit)
    async with aclosing(pages):
        async for page in pages:
            checked += page.checked
            violations += page.violations
    return AuditReport(checked, tuple(violations))
