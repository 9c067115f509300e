"""What an audit found, rule by rule: those that hold are told as well as those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.model.audit import RULES_IF_THOROUGH, AuditRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapescope.http.api.state import LastAudit
    from tapescope.model.audit import Violation

__all__ = ["RuleRow", "view_rules"]

_TOLD: Final[Mapping[AuditRule, str]] = {
    AuditRule.MISSING_FINAL: "Every task that ended has a final on its tape.",
    AuditRule.FINAL_NOT_LAST: "No tape goes on after its final.",
    AuditRule.MULTIPLE_FINAL: "No tape has more than one final.",
    AuditRule.SEQUENCE_GAP: "Every tape is numbered 1, 2, 3, without a gap.",
    AuditRule.OUTCOME_MISMATCH: "The row of a task says what its final says.",
    AuditRule.STUCK_RUNNING: "No task runs whose owner has been silent for too long.",
    AuditRule.DROPPED_COUNT_MISMATCH: "No more late events are kept than were counted.",
    AuditRule.BAD_ROW: "Every row can be read.",
    AuditRule.SCHEMA_CHANGED: "The guards of the database are in place.",
    AuditRule.ORPHAN_EVENTS: "Every tape is of a task that is there.",
    AuditRule.BACKLOG_MISMATCH: "The numbers of what waits are those of a count.",
    AuditRule.FILE_DAMAGED: "The database tells of no damage of its own file.",
}


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule, and what the audit found of it."""

    rule: AuditRule
    told: str
    """What is so where the rule holds."""
    checked: bool
    violations: Sequence[Violation]


def view_rules(last: LastAudit) -> tuple[RuleRow, ...]:
    """Every rule of the audit, the broken ones first.

    Of a damaged file no rule is said to hold: the audit may have ended where it was not readable.
    """
    damaged = any(one.rule is AuditRule.FILE_DAMAGED for one in last.report.violations)
    rows = [
        RuleRow(
            rule,
            _TOLD[rule],
            not damaged and (last.thorough or rule not in RULES_IF_THOROUGH),
            [one for one in last.report.violations if one.rule is rule],
        )
        for rule in AuditRule
    ]
    return tuple(sorted(rows, key=lambda row: not row.violations))
