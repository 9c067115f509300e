"""The audit's rules in plain Python, over what a ``MemoryStore`` holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tapescope.codec import decode
from tapescope.model.audit import AuditRule, Violation
from tapescope.model.tape import FINAL, DropReason
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.flush import EventRow
from tapescope.testing._tables import Quarantine, Record

__all__ = ["audit_records"]


def audit_records(
    records: Sequence[Record], quarantine: Quarantine, now: int, grace: int
) -> list[Violation]:
    """What is wrong with these tasks, rule by rule."""
    found: list[Violation] = []
    for record in records:
        task = record.task
        breaches = (
            *_audit_tape(task, record.tape),
            *_audit_lease(task, now, grace),
            *_audit_drops(task, quarantine),
        )
        found += (Violation.found(rule, task.task_id, *facts) for rule, *facts in breaches)
    order = list(AuditRule)
    return sorted(found, key=lambda violation: order.index(violation.rule))


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
    held_until = task.lease_expires_us or task.claimed_us or task.created_us
    if task.status is TaskStatus.RUNNING and held_until < now - grace:
        late = (now - held_until) / 1e6
        yield AuditRule.STUCK_RUNNING, task.attempt, task.owner, late


def _audit_drops(task: Task, quarantine: Quarantine) -> Iterator[tuple[Any, ...]]:
    kept, counted = quarantine.tally(task.task_id)
    ended = (DropReason.AFTER_TERMINAL, DropReason.DUPLICATE_FINAL)
    for reason in sorted(kept.keys() | counted.keys()):
        impossible = reason in ended and not task.status.terminal
        if kept[reason] > counted[reason] or counted[reason] < 0 or impossible:
            yield AuditRule.DROPPED_COUNT_MISMATCH, reason.value, kept[reason], counted[reason]
