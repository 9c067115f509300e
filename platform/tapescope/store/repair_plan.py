"""How a task is mended: the rules in plain Python, for the stores that have no functions.

PostgreSQL's ``repair_task`` says the same in SQL; one test compares them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast

from tapescope.codec import decode, encode
from tapescope.model.audit import AuditRule
from tapescope.model.tape import FINAL, DropReason, Outcome
from tapescope.model.tasks import (
    CancelReason,
    CancelRequest,
    ErrorInfo,
    FinalEvent,
    Task,
    TaskStatus,
)
from tapescope.model.times import format_optional_time, format_time
from tapescope.store.flush import EventRow
from tapescope.store.tape_rules import add_event
from tapescope.store.task_rows import StoredTask

__all__ = [
    "RepairEntry",
    "RepairPlan",
    "RowMend",
    "TapeMend",
    "describe_lease",
    "is_stuck",
    "lease_end",
    "mend_tape",
    "plan_repair",
    "read_outcome",
]

_LOST: Final = "its final was lost; a repair wrote this one from the row"


class RepairEntry(NamedTuple):
    """What a repair leaves behind, but for when and by whom."""

    rule: AuditRule
    was: Any
    done: Mapping[str, Any]


class RowMend(NamedTuple):
    """What the row of a task must say."""

    status: str
    finished_at: int
    error_code: str | None


class TapeMend(NamedTuple):
    """What brings a row and its tape in line with I1 and I2 again."""

    taken: Sequence[tuple[EventRow, DropReason]]
    """Events that go to the quarantine."""
    row: RowMend | None
    final: EventRow | None
    """To be put at the tape's end."""
    entries: Sequence[RepairEntry]


class RepairPlan(NamedTuple):
    """What a store does to mend one task, all in one transaction."""

    task: Task
    """The row as it must be; the same one where nothing is wrong with it."""
    taken: Sequence[tuple[EventRow, DropReason]]
    """Events that go from the tape to the quarantine, whatever its bounds, and are counted."""
    final: EventRow | None
    """To be put at the tape's end."""
    counts: Mapping[DropReason, int]
    """What the counts of dropped events must be, ``taken`` included, where they are wrong."""
    entries: Sequence[RepairEntry]
    """For the repair log."""

    @property
    def hands_over(self) -> bool:
        """Whether the task is left to the rescue, so that the audit still finds it stuck."""
        return any(one.rule is AuditRule.STUCK_RUNNING for one in self.entries)


def plan_repair(stored: StoredTask, now: int, grace: int) -> RepairPlan:
    """What is to be done about what the audit finds on a task; times in microseconds."""
    task, tape = stored.task, stored.tape
    first = next((place for place, row in enumerate(tape) if row.type == FINAL), len(tape))
    mend = mend_tape(task, tape[first:], tape[-1] if tape else None, now)
    entries = list(mend.entries)
    counts: dict[DropReason, int] = {}
    moved = [reason for _, reason in mend.taken]
    for reason in sorted({*stored.kept, *stored.counted, *moved}):
        kept = stored.kept.get(reason, 0) + moved.count(reason)
        counted = stored.counted.get(reason, 0) + moved.count(reason)
        if kept > counted or counted < 0:
            counts[reason] = kept
            was = [{"reason": reason.value, "n": counted}]
            done = {"reason": reason.value, "counted": kept}
            entries.append(RepairEntry(AuditRule.DROPPED_COUNT_MISMATCH, was, done))
    row = task
    if mend.row is not None:
        status, finished_at, code = mend.row
        row = replace(
            task,
            status=TaskStatus(status),
            finished_us=finished_at,
            error_code=code,
            lease_expires_us=None,
        )
    elif is_stuck(task, now, grace):
        row = replace(task, lease_expires_us=lease_end(task))
        stuck = RepairEntry(
            AuditRule.STUCK_RUNNING, describe_lease(task), {"attempt": task.attempt}
        )
        entries.append(stuck)
    return RepairPlan(row, mend.taken, mend.final, counts, entries)


def mend_tape(task: Task, end: Sequence[EventRow], last: EventRow | None, now: int) -> TapeMend:
    """What is to be done about a task whose tape runs, from its first ``final`` on, as ``end``.

    ``last`` is the tape's last event. The first ``final`` is the one that the guards let in, so it
    decides. One that cannot be read is left as it is, and so is all beside it.
    """
    entries: list[RepairEntry] = []
    if not end:
        if not task.status.terminal:
            return TapeMend((), None, None, ())
        final = _restore_final(task, last, now)
        done = {"seq": final.seq, "outcome": task.status.value}
        entries.append(RepairEntry(AuditRule.MISSING_FINAL, _row_of(task), done))
        return TapeMend((), None, final, entries)
    first, *after = end
    outcome = read_outcome(first.body)
    if outcome is None:
        return TapeMend((), None, None, ())
    rest = [row for row in after if row.type != FINAL]
    finals = [row for row in after if row.type == FINAL]
    for rule, rows in ((AuditRule.FINAL_NOT_LAST, rest), (AuditRule.MULTIPLE_FINAL, finals)):
        if rows:
            entries.append(
                RepairEntry(rule, [_event_of(row) for row in rows], {"taken": len(rows)})
            )
    mend = None
    if outcome != task.status.value:
        mend = RowMend(outcome, first.ts, _read_code(first.body, outcome))
        done = {"seq": first.seq, "outcome": outcome}
        entries.append(RepairEntry(AuditRule.OUTCOME_MISMATCH, _row_of(task), done))
    reasons = {True: DropReason.DUPLICATE_FINAL, False: DropReason.AFTER_TERMINAL}
    return TapeMend([(row, reasons[row.type == FINAL]) for row in after], mend, None, entries)


def is_stuck(task: Task, now: int, grace: int) -> bool:
    """Whether the task runs though its lease ended more than ``grace`` microseconds ago."""
    return task.status is TaskStatus.RUNNING and lease_end(task) < now - grace


def lease_end(task: Task) -> int:
    """Until when an owner had the task, in microseconds since the epoch."""
    return task.lease_expires_us or task.claimed_us or task.created_us


def describe_lease(task: Task) -> dict[str, Any]:
    """What the repair log keeps of a lease before the repair ends it."""
    return {"owner": task.owner, "lease_expires_at": format_optional_time(task.lease_expires_us)}


def read_outcome(body: str) -> str | None:
    """The outcome that a ``final`` says; ``None`` where that cannot be read."""
    said = _read(body).get("outcome")
    return said if said in list(Outcome) else None


def _read_code(body: str, outcome: str) -> str | None:
    error = _read(body).get("error")
    if outcome != Outcome.FAILED or not isinstance(error, dict):
        return None
    code = cast("dict[str, Any]", error).get("code")
    return None if code is None else str(code)


def _read(body: str) -> dict[str, Any]:
    try:
        said = decode(body)
    except ValueError:  # no JSON: that is what is wrong with it
        return {}
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def _restore_final(task: Task, last: EventRow | None, now: int) -> EventRow:
    """A ``final`` of what the row says; a result that was on the lost one is lost."""
    at = now if task.finished_us is None else task.finished_us
    outcome = Outcome(task.status.value)
    final = FinalEvent(outcome)
    if outcome is Outcome.FAILED:
        final = FinalEvent.failed(ErrorInfo(task.error_code or "unknown", _LOST))
    elif outcome is Outcome.CANCELLED:
        unknown = CancelRequest(CancelReason.USER, _LOST, None, at)
        final = FinalEvent.cancelled(task.cancel or unknown)
    body = encode({**final.as_json(), "repaired": True}, "final")
    return add_event(task, last, FINAL, at, body)


def _row_of(task: Task) -> dict[str, Any]:
    return {
        "status": task.status.value,
        "finished_at": format_optional_time(task.finished_us),
        "error_code": task.error_code,
    }


def _event_of(row: EventRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "attempt": row.attempt,
        "offer": row.offer,
        "type": row.type,
        "ts": format_time(row.ts),
        "body": row.body,
    }
