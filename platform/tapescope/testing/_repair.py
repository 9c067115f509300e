"""The repair of a task that a ``MemoryStore`` holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tapescope.model.audit import AuditRule
from tapescope.model.tape import FINAL, DropReason
from tapescope.model.tasks import TaskStatus
from tapescope.store.repair_plan import RepairEntry, describe_lease, is_stuck, mend_tape
from tapescope.testing._tables import Quarantine, Record

__all__ = ["repair_record"]


def repair_record(
    record: Record, quarantine: Quarantine, now: int, grace: int
) -> Iterator[RepairEntry]:
    """Mend what is wrong with a task, and say what was done."""
    task, tape = record.task, record.tape
    first = next((place for place, row in enumerate(tape) if row.type == FINAL), len(tape))
    mend = mend_tape(task, tape[first:], tape[-1] if tape else None, now)
    yield from mend.entries
    if mend.taken:
        del tape[first + 1 :]
    if mend.row is not None:
        status, finished_us, code = mend.row
        record.task = replace(
            task,
            status=TaskStatus(status),
            finished_us=finished_us,
            error_code=code,
            lease_expires_us=None,
        )
    if mend.final is not None:
        tape.append(mend.final)
    for row, reason in mend.taken:
        quarantine.keep(task.task_id, row, reason, record)
    yield from _mend_counts(task.task_id, quarantine)
    if mend.row is None and is_stuck(task, now, grace):
        ends = task.lease_expires_us or task.claimed_us or task.created_us
        record.task = replace(task, lease_expires_us=ends)
        done = {"attempt": task.attempt}
        yield RepairEntry(AuditRule.STUCK_RUNNING, describe_lease(task), done)


def _mend_counts(task_id: str, quarantine: Quarantine) -> Iterator[RepairEntry]:
    kept, counted = quarantine.tally(task_id)
    for reason in sorted(kept.keys() | counted.keys()):
        if kept[reason] > counted[reason] or counted[reason] < 0:
            quarantine.correct(task_id, DropReason(reason), kept[reason])
            was = [{"reason": reason.value, "n": counted[reason]}]
            done = {"reason": reason.value, "counted": kept[reason]}
            yield RepairEntry(AuditRule.DROPPED_COUNT_MISMATCH, was, done)
