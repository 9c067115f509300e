"""What a tape takes: the rules in plain Python, for stores without constraints and triggers.

A database that has them refuses by itself what ``check_next_event`` refuses, and its SQL decides
what ``plan_rows`` decides.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass
from typing import cast

from tapescope.codec import decode
from tapescope.model.messages import InboxRow, MessageResult, SendAnswer, SendRow
from tapescope.model.tape import (
    FINAL,
    TASK_STARTED,
    DroppedEvent,
    DropReason,
    Outcome,
    find_drop_reason,
)
from tapescope.model.tasks import CancelRequest, Task, TaskStatus
from tapescope.store.flush import EventRow, Flush, FlushRefused, GiveUpRow, RefusedRow
from tapescope.store.orders import FIRST_FOREIGN_OFFER, cancel_instead

__all__ = [
    "RowPlan",
    "add_event",
    "check_next_event",
    "drop_event",
    "plan_rows",
    "plan_send",
    "start_tape",
    "take_message",
]


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What becomes of one row of a flush."""

    row: EventRow
    """As it is to be written: the cancelled ``final``, where a cancel is on record."""
    late: bool = False
    """It does not go on the tape."""
    reason: DropReason | None = None
    """Why it is dropped; ``None`` beside ``late`` for the tape's own ``final``, sent again."""
    give_up: GiveUpRow | None = None
    """Its task is pending again once the row is on the tape."""
    cancel: CancelRequest | None = None
    """The cancel on record that made an ``attempt_failed`` a ``final``."""

    def refuse(self, place: int, task: Task | None, last_seq: int) -> RefusedRow:
        """The answer to a late row of this place, whose task's tape ends at ``last_seq``."""
        if task is None:
            return RefusedRow(place, self.reason, None, None, last_seq)
        outcome = Outcome(task.status.value) if task.status.terminal else None
        return RefusedRow(place, self.reason, task.op, outcome, last_seq)


def plan_rows(
    flush: Flush, find: Callable[[int], tuple[Task, EventRow | None] | None]
) -> list[RowPlan]:
    """What becomes of each row of a flush, as its creates and claims have left the tasks.

    ``find`` gives the task of a key and the ``final`` of its tape; ``None``: there is no such task.
    """
    give_ups = {one.row: one for one in flush.give_ups}
    plans: list[RowPlan] = []
    for place, row in enumerate(flush.rows):
        task, final = find(row.key) or (None, None)
        if task is None or final is not None or not _owns(row, task):
            plans.append(RowPlan(row, late=True, reason=_find_reason(row, task, final)))
            continue
        give_up = give_ups.get(place)
        if give_up is not None and task.cancel is not None:
            ended = cancel_instead(row, task.cancel)
            plans.append(RowPlan(ended, cancel=task.cancel))
        else:
            plans.append(RowPlan(row, give_up=give_up))
    return plans


def _owns(row: EventRow, task: Task) -> bool:
    """Whether the row is of the attempt that has the task now (invariant I5)."""
    holder = (task.status, task.attempt, task.owner)
    return holder == (TaskStatus.RUNNING, row.attempt, row.owner)


def _find_reason(row: EventRow, task: Task | None, final: EventRow | None) -> DropReason | None:
    return find_drop_reason(
        row.attempt,
        row.type,
        row.body,
        task_attempt=None if task is None else task.attempt,
        final=None if final is None else (final.attempt, final.body),
    )


def check_next_event(task: Task, last: EventRow | None, row: EventRow) -> None:
    """Whether ``row`` may follow ``last`` on the task's tape (invariants I1, I3, I5, I7).

    Raises ``FlushRefused``.
    """
    if last is not None and last.type == FINAL:
        raise FlushRefused(f"I1: the tape of task {task.task_id} is closed")
    seq = 1 if last is None else last.seq + 1
    if row.seq != seq:
        raise FlushRefused(f"I3: seq {row.seq} where {seq} belongs")
    if row.attempt != task.attempt:
        raise FlushRefused(f"I5: attempt {row.attempt} is not attempt {task.attempt}")
    if last is not None and (row.attempt, row.offer) <= (last.attempt, last.offer):
        raise FlushRefused(f"I7: offer {row.offer} of attempt {row.attempt} is on the tape")
    if row.type != FINAL and task.status is not TaskStatus.RUNNING:
        raise FlushRefused(f"I5: task {task.task_id} is not running")


def take_message(inbox: MutableSequence[InboxRow], row: EventRow) -> None:
    """Mark the message of a ``message_taken``, in the inbox of its task, by numbers from 1.

    Raises ``FlushRefused`` where there is none that is not taken.
    """
    body = decode(row.body)
    n = cast("dict[str, object]", body).get("n") if isinstance(body, dict) else None
    if type(n) is not int or not 1 <= n <= len(inbox) or inbox[n - 1].taken_seq is not None:
        raise FlushRefused(f"a message is taken once, from the inbox of its task: {n!r}")
    inbox[n - 1] = inbox[n - 1]._replace(taken_seq=row.seq)


def plan_send(
    task: Task, inbox: Sequence[InboxRow], row: SendRow, now: int
) -> tuple[SendAnswer, InboxRow | None]:
    """What becomes of a message, and its row where it goes into the inbox."""
    there = next((one for one in inbox if one.key == row.key), None)
    result, n = MessageResult.SENT, len(inbox) + 1
    if there is not None:
        result, n = MessageResult.REPEATED, there.n
    elif task.status.terminal:
        result, n = MessageResult.ENDED, 0
    elif sum(one.taken_seq is None for one in inbox) >= row.most:
        result, n = MessageResult.FULL, 0
    answer = SendAnswer(result, task.op, task.status, n, None if there is None else there.body)
    new = InboxRow(n, row.key, row.body, now, None) if result is MessageResult.SENT else None
    return answer, new


def start_tape(task: Task, last: EventRow | None, ts: int, body: str) -> EventRow:
    """The ``task_started`` of a task that was just claimed: offer 1 of its attempt."""
    seq = 1 if last is None else last.seq + 1
    return EventRow(task.key, seq, task.attempt, 1, TASK_STARTED, ts, body, task.owner or "")


def add_event(task: Task, last: EventRow | None, type: str, ts: int, body: str) -> EventRow:
    """An event at the tape's end that is not of the run itself: a cancel's, a rescue's, a repair's.

    It takes an offer that no run takes (docs/decisions/0006).
    """
    seq, offer = (0, 0) if last is None else (last.seq, last.offer)
    offer = max(offer, FIRST_FOREIGN_OFFER - 1) + 1
    return EventRow(task.key, seq + 1, task.attempt, offer, type, ts, body, task.owner or "")


def drop_event(
    task_id: str, row: EventRow, reason: DropReason, final: EventRow | None, trace_id: str | None
) -> DroppedEvent:
    """A late event as the quarantine keeps it; ``final`` is that of the task's tape."""
    late_s = None if final is None else (row.ts - final.ts) / 1e6
    body = decode(row.body)
    return DroppedEvent(task_id, row.attempt, row.type, reason, row.ts, late_s, trace_id, body)
