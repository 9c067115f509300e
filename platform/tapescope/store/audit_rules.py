"""The audit's rules in plain Python, for the stores that have no SQL to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from tapescope.codec import decode
from tapescope.model.audit import AuditRule, Violation
from tapescope.model.tape import FINAL, DropReason
from tapescope.model.tasks import Task
from tapescope.store.flush import EventRow
from tapescope.store.repair_plan import is_stuck, lease_end
from tapescope.store.task_rows import StoredTask

__all__ = ["audit_tasks"]

_CLOSED: Final = (DropReason.AFTER_TERMINAL, DropReason.DUPLICATE_FINAL)
"""Reasons that only a closed tape has."""


def audit_tasks(tasks: Iterable[StoredTask], now: int, grace: int) -> list[Violation]:
    """What is wrong with these tasks, rule by rule; times in microseconds."""
    violations: list[Violation] = []
    for stored in tasks:
        breaches = (
            *_audit_tape(stored.task, stored.tape),
            *_audit_lease(stored.task, now, grace),
            *_audit_drops(stored),
        )
        violations += (
            Violation.found(rule, stored.task.task_id, *facts) for rule, *facts in breaches
        )
    order = list(AuditRule)
    return sorted(violations, key=lambda violation: order.index(violation.rule))


def _audit_tape(task: Task, tape: Sequence[EventRow]) -> Iterator[tuple[Any, ...]]:
    finals = [row for row in tape if row.type == FINAL]
    seqs = [row.seq for row in tape]
    if task.status.terminal and not finals:
        yield AuditRule.MISSING_FINAL, task.status.value, len(tape)
    if finals and finals[-1].seq < seqs[-1]:
        yield AuditRule.FINAL_NOT_LAST, finals[-1].seq, seqs[-1]
    if len(finals) > 1:
        yield AuditRule.MULTIPLE_FINAL, len(finals), finals[0].seq, finals[-1].seq
    if seqs != list(range(1, len(seqs) + 1)):
        yield AuditRule.SEQUENCE_GAP, len(seqs), seqs[0], seqs[-1]
    if not tape and task.attempt and not task.status.terminal:
        yield AuditRule.SEQUENCE_GAP, 0, None, None
    if finals and (outcome := decode(finals[-1].body).get("outcome")) != task.status.value:
        yield AuditRule.OUTCOME_MISMATCH, task.status.value, finals[-1].seq, outcome


def _audit_lease(task: Task, now: int, grace: int) -> Iterator[tuple[Any, ...]]:
    if is_stuck(task, now, grace):
        yield AuditRule.STUCK_RUNNING, task.attempt, task.owner, (now - lease_end(task)) / 1e6


def _audit_drops(stored: StoredTask) -> Iterator[tuple[Any, ...]]:
    for reason in sorted(stored.kept.keys() | stored.counted.keys()):
        kept, counted = stored.kept.get(reason, 0), stored.counted.get(reason, 0)
        impossible = reason in _CLOSED and not stored.task.status.terminal
        if kept > counted or counted < 0 or (impossible and (kept or counted)):
            yield AuditRule.DROPPED_COUNT_MISMATCH, reason.value, kept, counted
