"""The rules of the audit, and what it finds: whether the tapes in a store keep the invariants.

The guards in the database prevent every violation. The audit is for what goes round the guards: a
restored backup, an edit by hand, a bug of ours, a broken disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "AUDIT_GRACE",
    "NO_TASK",
    "RULES_IF_THOROUGH",
    "RULES_OF_STORE",
    "AuditPage",
    "AuditReport",
    "AuditRule",
    "Violation",
]

NO_TASK: Final = "-"
"""In the place of a task's id, in a violation that is of the whole store."""
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
    """The task runs, and its lease ended a while ago."""
    DROPPED_COUNT_MISMATCH = "dropped_count_mismatch"
    """More late events are kept than were counted, or a count is impossible (I7)."""
    BAD_ROW = "bad_row"
    """The task's row, or one of its tape, cannot be read: it was written past tapescope."""
    SCHEMA_CHANGED = "schema_changed"
    """The schema is not what the migrations make: a guard is gone, or a trigger is foreign. Of the
    store, and no task: ``NO_TASK`` stands for the id."""
    ORPHAN_EVENTS = "orphan_events"
    """There are tapes of tasks that are not there: half of a backup was restored. Of the store."""
    BACKLOG_MISMATCH = "backlog_mismatch"
    """The store's numbers of what waits and runs are not what a count of its tasks gives. Of the
    store."""
    FILE_DAMAGED = "file_damaged"
    """The file of the database is not sound: what it says cannot be believed. Of the store."""


RULES_OF_STORE: Final = (
    AuditRule.SCHEMA_CHANGED,
    AuditRule.ORPHAN_EVENTS,
    AuditRule.BACKLOG_MISMATCH,
    AuditRule.FILE_DAMAGED,
)
"""The rules that are of the whole store: ``NO_TASK`` stands in the place of the task's id."""
RULES_IF_THOROUGH: Final = (AuditRule.BACKLOG_MISMATCH, AuditRule.FILE_DAMAGED)
"""The rules that a thorough audit looks at, and no other."""

_DETAILS: Final = {
    AuditRule.MISSING_FINAL: "the row says {}, but none of the {} events of its tape is a final",
    AuditRule.FINAL_NOT_LAST: "event {} is a final, but the tape goes on to event {}",
    AuditRule.MULTIPLE_FINAL: "{} events are a final, the first is event {}, the last event {}",
    AuditRule.SEQUENCE_GAP: "the tape has {} events, numbered from {} to {}",
    AuditRule.OUTCOME_MISMATCH: "the row says {}, the final (event {}) says {}",
    AuditRule.STUCK_RUNNING: "attempt {} of owner {} runs, but its lease ended {:.0f} s ago",
    AuditRule.DROPPED_COUNT_MISMATCH: "of reason {} the quarantine holds {} events, counted are {}",
    AuditRule.BAD_ROW: "{}",
    AuditRule.SCHEMA_CHANGED: "{}",
    AuditRule.ORPHAN_EVENTS: "{} tapes, of the keys {} to {}, are of tasks that are not there",
    AuditRule.BACKLOG_MISMATCH: "of op {} the store says {} tasks are {}, and there are {}{}",
    AuditRule.FILE_DAMAGED: "{}",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a task breaks, and the facts that show it."""

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
    """Tasks and events that were read for the page: the audit's rate limit counts these."""
    violations: tuple[Violation, ...]
    next: int | None
    """Pass it as ``after`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit of the whole store found."""

    checked: int
    violations: tuple[Violation, ...]
