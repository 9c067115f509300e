"""Answering the calls of a flush: each fact is counted here, once, where it was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from tapescope.codec import canonical, decode
from tapescope.errors import IdempotencyConflict
from tapescope.model.answers import Appended, Finished
from tapescope.model.leases import GivenUp
from tapescope.model.messages import MessageResult, Untaken
from tapescope.model.tape import (
    FINAL,
    MESSAGE_TAKEN,
    TAPE_OPEN,
    TASK_STARTED,
    DropReason,
    Event,
    Outcome,
)
from tapescope.model.tasks import CancelRequest, FinalEvent, Task
from tapescope.store._drop_log import DropLog
from tapescope.store._pending import (
    PendingBirth,
    PendingCancel,
    PendingClaim,
    PendingCreate,
    PendingEvents,
    PendingFinish,
    PendingGiveUp,
    PendingWrite,
    TapeCursor,
)
from tapescope.store.flush import (
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    Flush,
    FlushAnswer,
    RefusedRow,
)
from tapescope.store.notifications import Change, Changes
from tapescope.store.task_rows import as_pending
from tapescope_telemetry import error_type_of
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.clock import Clock
    from tapescope.store.database_clock import DatabaseClock
    from tapescope_telemetry import StoreMeter, TaskMeter, Telemetry

__all__ = [
    "Batch",
    "RowRange",
    "StoreContext",
    "deliver",
    "deliver_recalled",
    "fail",
    "match_existing",
    "note_untaken",
]

_log = Logger("tapescope")
_type_of = itemgetter(4)


@dataclass(frozen=True, slots=True)
class StoreContext:
    """What a store counts and notifies with: its clock, meters and subscriptions."""

    name: str
    """The store as an error message may show it: no password."""
    clock: Clock
    patience: float
    """Seconds a call waits for a store that is away."""
    meter: StoreMeter
    tasks: TaskMeter
    changes: Changes
    due_clock: DatabaseClock
    telemetry: Telemetry
    """What makes the spans of cancels that end a task."""
    drops: DropLog = field(default_factory=DropLog)


class RowRange(NamedTuple):
    """A call of a flush and the event rows that are its own."""

    call: PendingEvents
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """A flush and the calls it answers."""

    flush: Flush
    creates: list[PendingCreate] = field(default_factory=list[PendingCreate])
    claims: list[PendingClaim | PendingBirth] = field(
        default_factory=list["PendingClaim | PendingBirth"]
    )
    ranges: list[RowRange] = field(default_factory=list[RowRange])
    cancels: list[PendingCancel] = field(default_factory=list[PendingCancel])


def deliver(context: StoreContext, batch: Batch, answer: FlushAnswer) -> None:
    """Answer every call of a flush that the database carried out."""
    for place, created in enumerate(batch.creates):
        _deliver_create(context, created, answer, place)
    if context.changes.awaits_arrivals and _any_arrived(batch, answer):
        context.changes.publish_arrival()
    for claim, won in zip(batch.claims, answer.claims, strict=True):
        if isinstance(claim, PendingClaim):  # the others are answered with their create
            _deliver_claim(context, claim, won)
    if batch.ranges:
        context.meter.flush(len(batch.flush.rows))
        if batch.flush.traces:
            for row_range in batch.ranges:
                row_range.call.cursor.untraced = None
        _deliver_rows(context, batch, answer)
    if answer.untaken:
        note_untaken(context.telemetry, answer.untaken)
    for cancel, answered in zip(batch.cancels, answer.cancels, strict=True):
        _deliver_cancel(context, cancel, answered)


def note_untaken(telemetry: Telemetry, untaken: Sequence[Untaken]) -> None:
    """Count and tell the messages that tasks which ended have not taken."""
    for task_id, op, n in untaken:
        telemetry.messages.count(op, MessageResult.UNTAKEN.value, n)
        text = "Task %s (%s) has ended and did not take %d of its messages. They stay in its inbox."
        _log.warning(text, task_id, op, n, extra={"task_id": task_id, "op": op})


def _any_arrived(batch: Batch, answer: FlushAnswer) -> bool:
    """Whether a task waits for a claim since this flush."""
    if len(answer.existing) < len(batch.creates):
        return True
    kept_off = {*answer.cancelled_instead, *(row.row for row in answer.refused)}
    return any(given.row not in kept_off for given in batch.flush.give_ups)


def fail(context: StoreContext, call: PendingWrite, error: BaseException) -> None:
    """Count the events of a call that ends with an error at its caller (invariant I7)."""
    why = error_type_of(error)
    if isinstance(call, PendingEvents):
        for type_, _, _ in call.events:
            context.meter.ledger.fail(type_, why, 1)
    elif isinstance(call, PendingClaim | PendingBirth):
        context.meter.ledger.fail(TASK_STARTED, why, 1)
    elif isinstance(call, PendingCancel):
        context.meter.ledger.fail(FINAL, why, 1)


def _deliver_create(
    context: StoreContext, call: PendingCreate, answer: FlushAnswer, place: int
) -> None:
    row: CreateRow = call.row
    standing = answer.existing.get(place)
    if standing is None:
        context.tasks.submitted(row.op)
        task = as_pending(row, call.params, answer.now, answer.keys[place])
        if isinstance(call, PendingBirth):
            _deliver_birth(context, call, task, answer.claims[call.claim_place])
        else:
            call.answer((task, True))
        return
    is_own = standing.task_id == row.task_id
    try:
        # its own id: an earlier try of this very call, whose answer was lost, made it
        task = match_existing(standing, row)
        if isinstance(call, PendingBirth):
            context.meter.ledger.replay(1)  # no task_started was offered now
            call.answer((task, is_own, None))
        else:
            call.answer((task, is_own))
    except IdempotencyConflict as error:
        call.reject(error)


def _deliver_birth(
    context: StoreContext, call: PendingBirth, task: Task, won: ClaimAnswer | None
) -> None:
    if won is None:
        context.meter.ledger.replay(1)  # it is pending: no task_started was offered
    else:
        _note_claim(context, call.cursor, task, call.claim, won)
    call.answer((task, True, won))


def match_existing(standing: Task, row: CreateRow) -> Task:
    """The task that stands where ``row`` was to go. Raises ``IdempotencyConflict``.

    Its params are the same when their canonical JSON is: 1, 1.0 and true differ. A unique key says
    nothing of params.
    """
    same = standing.task_id == row.task_id
    by_unique_key = row.idempotency_key is None or row.idempotency_key != standing.idempotency_key
    if same or by_unique_key or canonical(standing.params) == canonical(decode(row.params)):
        return standing
    raise IdempotencyConflict(standing.op, standing.idempotency_key or "", standing.task_id)


def _deliver_claim(context: StoreContext, call: PendingClaim, won: ClaimAnswer | None) -> None:
    if won is None:
        context.meter.ledger.replay(1)  # another owner has the task: no task_started was offered
        call.answer(None)
        return
    _note_claim(context, call.cursor, call.task, call.row, won)
    call.answer(won)


def _note_claim(
    context: StoreContext, cursor: TapeCursor, task: Task, row: ClaimRow, won: ClaimAnswer
) -> None:
    """An attempt was begun: count what was written, and tell who follows."""
    context.meter.ledger.store(TASK_STARTED, 1)
    cursor.key, cursor.op, cursor.tail, cursor.offers = task.key, task.op, won.started_seq, 1
    cursor.claimed = context.clock.monotonic()
    if context.changes.follows(row.task_id):
        started = Event(won.started_seq, TASK_STARTED, row.ts, won.attempt, decode(row.body))
        context.changes.publish(Change(row.task_id, won.started_seq, (started,)))


def _deliver_rows(context: StoreContext, batch: Batch, answer: FlushAnswer) -> None:
    rows = batch.flush.rows
    refused = {row.row: row for row in answer.refused}
    if not refused:
        stored = Counter(map(_type_of, rows))
    else:
        stored = Counter(row.type for place, row in enumerate(rows) if place not in refused)
    for place in answer.cancelled_instead:  # these became finals
        stored[rows[place].type] -= 1
        stored[FINAL] += 1
    if MESSAGE_TAKEN in stored:
        _count_taken(context, batch, refused)
    for type_, count in stored.items():
        context.meter.ledger.store(type_, count)
    followed = context.changes.any_follower
    for row_range in batch.ranges:
        refusal = refused.get(row_range.start) if refused else None
        if refusal is None:
            cancelled_instead = (
                answer.cancelled_instead.get(row_range.start) if answer.cancelled_instead else None
            )
            _deliver_stored(context, batch.flush, row_range, followed, cancelled_instead)
        else:
            _deliver_refused(context, row_range, refusal)


def _count_taken(context: StoreContext, batch: Batch, refused: Container[int]) -> None:
    for call, start, stop in batch.ranges:
        if start not in refused:
            n = sum(row.type == MESSAGE_TAKEN for row in batch.flush.rows[start:stop])
            context.telemetry.messages.count(call.cursor.op, MessageResult.TAKEN.value, n)


def _deliver_stored(
    context: StoreContext,
    flush: Flush,
    row_range: RowRange,
    followed: bool,
    cancelled_instead: CancelRequest | None,
) -> None:
    call = row_range.call
    cursor = call.cursor
    first = cursor.tail + 1
    cursor.tail += row_range.stop - row_range.start
    if cancelled_instead is not None and isinstance(call, PendingGiveUp):
        _deliver_cancelled_instead(context, call, cancelled_instead)
        return
    if followed and context.changes.follows(cursor.task_id):
        events = tuple(
            Event(row.seq, row.type, row.ts, row.attempt, decode(row.body))
            for row in flush.rows[row_range.start : row_range.stop]
        )
        context.changes.publish(Change(cursor.task_id, cursor.tail, events))
    if call.finishes:
        if isinstance(call, PendingFinish):
            cursor.doubt = None
            _count_final(context, cursor, call.final, call.events[0][2])
            call.answer(Finished(True, None, call.final.outcome, cursor.tail))
        else:
            call.answer(GivenUp(None, None, None, cursor.tail))
    elif not call.future.done():  # else its caller is gone
        tail = cursor.tail
        call.future.set_result(Appended(range(first, tail + 1), None, tail))


def _deliver_cancelled_instead(
    context: StoreContext, call: PendingGiveUp, request: CancelRequest
) -> None:
    """A cancel on record made the event that gave the task up the cancelled task's ``final``."""
    cursor, ts = call.cursor, call.events[0][2]
    final = FinalEvent.cancelled(request, call.error)
    if context.changes.follows(cursor.task_id):
        event = Event(cursor.tail, FINAL, ts, cursor.attempt, final.as_json())
        context.changes.publish(Change(cursor.task_id, cursor.tail, (event,)))
    _count_final(context, cursor, final, ts)
    call.answer(GivenUp(final, None, final.outcome, cursor.tail))


def _count_final_in_doubt(
    context: StoreContext, cursor: TapeCursor, final: FinalEvent, last_seq: int
) -> None:
    """Count a ``final`` of ours that proves to be on the tape, though its reply was lost."""
    doubt = cursor.doubt
    if doubt is not None and not doubt.counted:
        cursor.doubt = doubt._replace(counted=True)
        cursor.tail = last_seq
        written_ago = max(0, context.clock.now() - doubt.row.ts) / 1e6
        _count_final(context, cursor, final, doubt.row.ts, written_ago)


def _count_final(
    context: StoreContext,
    cursor: TapeCursor,
    final: FinalEvent,
    ts: int,
    written_ago: float = 0.0,
) -> None:
    seconds = 0.0
    if cursor.claimed is not None:
        seconds = context.clock.monotonic() - cursor.claimed - written_ago
    error_type = final.error.code if final.error and final.outcome is Outcome.FAILED else None
    reason = final.cancel.reason.value if final.cancel else None
    context.tasks.finished(
        cursor.op,
        final.outcome.value,
        error_type,
        seconds,
        cancel_reason=reason,
        context=cursor.context,
    )
    if final.outcome is Outcome.CANCELLED and final.cancel is not None:
        waited = max(0, ts - final.cancel.at_us) / 1e6
        context.tasks.cancel_finished(final.cancel.reason.value, waited, context=cursor.context)
    context.meter.tape_closed(cursor.tail)


def deliver_recalled(context: StoreContext, call: PendingGiveUp, event: Event) -> None:
    """Answer a call that asks again for what was carried out: ``event`` is what it wrote."""
    context.meter.ledger.replay(1)  # no new offer
    if context.changes.follows(call.cursor.task_id):
        context.changes.publish(Change(call.cursor.task_id, event.seq, (event,)))
    final = FinalEvent.from_event(event) if event.type == FINAL else None
    if final is not None:
        _count_final_in_doubt(context, call.cursor, final, event.seq)
    call.answer(GivenUp(final, None, None if final is None else final.outcome, event.seq))


def _deliver_refused(context: StoreContext, row_range: RowRange, refusal: RefusedRow) -> None:
    call, cursor = row_range.call, row_range.call.cursor
    if refusal.reason is None:
        context.meter.ledger.replay(1)  # the tape's own final, sent again: no new offer
        if isinstance(call, PendingFinish):
            _count_final_in_doubt(context, cursor, call.final, refusal.last_seq)
    else:
        outcome: str | None = TAPE_OPEN if refusal.outcome is None else refusal.outcome.value
        if refusal.reason is DropReason.UNKNOWN_TASK:
            outcome = None
        for type_, _, _ in call.events:
            context.meter.dropped(
                refusal.reason.value, type_, refusal.op, outcome, context=cursor.context
            )
        context.drops.note(cursor, refusal.op, refusal.reason, len(call.events))
    if isinstance(call, PendingFinish):
        call.answer(
            Finished(refusal.reason is None, refusal.reason, refusal.outcome, refusal.last_seq)
        )
    elif isinstance(call, PendingGiveUp):
        call.answer(GivenUp(None, refusal.reason, refusal.outcome, refusal.last_seq))
    else:
        call.answer(Appended(range(0), refusal.reason, refusal.last_seq))


def _deliver_cancel(
    context: StoreContext, call: PendingCancel, answer: CancelAnswer | None
) -> None:
    row: CancelRow = call.row
    if answer is not None and answer.state is CancelState.CANCELLED:
        context.meter.ledger.store(FINAL, 1)
        context.tasks.cancel_requested(row.reason)
        context.tasks.finished(
            answer.op, Outcome.CANCELLED.value, None, 0.0, cancel_reason=row.reason
        )
        context.tasks.cancel_finished(row.reason, 0.0)
        context.meter.tape_closed(answer.last_seq)
        context.telemetry.start_cancel_span(
            *(answer.op, row.task_id, answer.attempt, answer.traceparent, call.asked_in)
        ).end(Outcome.CANCELLED, cancel_reason=row.reason, tape_length=answer.last_seq)
        if context.changes.follows(row.task_id):
            # as the database wrote it, which may know more of who asked than the row said
            assert answer.request is not None, "the task was cancelled by it"
            body = FinalEvent.cancelled(answer.request).as_json()
            final = Event(answer.last_seq, FINAL, row.ts, answer.attempt, body)
            context.changes.publish(Change(row.task_id, answer.last_seq, (final,)))
    else:
        context.meter.ledger.replay(1)  # it was not pending: no final was offered
    if answer is not None and answer.request is not None:
        if answer.state is CancelState.RECORDED:
            context.tasks.cancel_requested(row.reason)
        if answer.state in (CancelState.RECORDED, CancelState.ALREADY_RECORDED):
            context.changes.tell_owner(answer.owner, row.task_id, answer.request)
    call.answer(answer)
