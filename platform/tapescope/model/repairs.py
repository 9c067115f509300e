"""Repairs: what is done about each violation that the audit finds, and the repair log.

A repair trusts what was written first, and discards nothing: events that it takes off a tape go to
the quarantine, and the repair log keeps what stood there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tapescope.model.audit import AuditRule, Violation
from tapescope.model.times import moment

__all__ = ["Mended", "Repair", "RepairReport"]

_TEXTS: Final = {
    AuditRule.MISSING_FINAL: "event {seq} is now its final, and says {outcome} as the row does",
    AuditRule.FINAL_NOT_LAST: "events after the final that went to the quarantine: {taken}",
    AuditRule.MULTIPLE_FINAL: "later finals that went to the quarantine: {taken}",
    AuditRule.OUTCOME_MISMATCH: "the row says {outcome} now, as event {seq} does",
    AuditRule.STUCK_RUNNING: "attempt {attempt} is handed to the rescue",
    AuditRule.DROPPED_COUNT_MISMATCH: "of reason {reason} {counted} late events are counted now",
    AuditRule.BACKLOG_MISMATCH: "numbers that are set to a count of the tasks: {numbers}",
}


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair, of one task or of the whole store, as its row in the repair log has it."""

    rule: AuditRule
    task_id: str
    was: Any
    """What stood there before, as JSON: events, a row's columns, counts."""
    done: Mapping[str, Any]
    """The facts of what was done, as JSON; ``text`` puts them into words."""
    at_us: int
    """``at`` in microseconds since the Unix epoch."""
    by: str
    """Who asked for the repair."""
    number: int = field(default=0, compare=False)
    """The number of the row in the repair log."""

    @property
    def at(self) -> datetime:
        """When it was done, by the clock of the store: an aware time in UTC."""
        return moment(self.at_us)

    @property
    def text(self) -> str:
        """What was done, as a sentence without its capital."""
        text = _TEXTS.get(self.rule)
        try:
            return str(dict(self.done)) if text is None else text.format(**self.done)
        except LookupError:  # its row was written past tapescope
            return str(dict(self.done))


@dataclass(frozen=True, slots=True)
class Mended:
    """What a repair of one task did."""

    repairs: tuple[Repair, ...]
    left: tuple[Violation, ...]
    """What the audit still finds on that task."""


@dataclass(slots=True)
class RepairReport:
    """What a repair of the whole store found and did."""

    dry_run: bool
    checked: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    repairs: list[Repair] = field(default_factory=list[Repair])
    """What was done; with ``dry_run``, what would have been done."""
    left: list[Violation] = field(default_factory=list[Violation])
    """What a repair cannot mend: a person has to look at it, with a backup at hand."""
