"""Answering the calls of a flush: each fact is counted here, once, where it was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from tapescope._calls import (
    Appended,
    Call,
    CancelCall,
    ClaimCall,
    CreateCall,
    EventsCall,
    FinishCall,
    Finished,
    GiveUpCall,
    Writer,
)
from tapescope._changes import Change, Changes
from tapescope._drop_log import DropLog
from tapescope._giving_up import GivenUp
from tapescope._json import decode
from tapescope.errors import IdempotencyConflict
from tapescope.flush import (
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
from tapescope.tape import ATTEMPT_FAILED, FINAL, TASK_STARTED, DropReason, Event, Outcome
from tapescope.tasks import CancelRequest, Final, Task, TaskStatus
from tapescope_telemetry import TAPE_OPEN, error_type_of

if TYPE_CHECKING:
    from tapescope._clock import Clock
    from tapescope_telemetry import StoreMeter, TaskMeter

__all__ = [
    "Batch",
    "Books",
    "Span",
    "as_pending",
    "as_running",
    "fail",
    "match_existing",
    "settle",
]

_type_of = itemgetter(4)


@dataclass(frozen=True, slots=True)
class Books:
    """What a store keeps its accounts with: clock, meters, and who is to be told."""

    name: str
    """The store as an error message may show it: no password."""
    clock: Clock
    patience: float
    """Seconds a call waits for a store that is away."""
    meter: StoreMeter
    tasks: TaskMeter
    changes: Changes
    drops: DropLog = field(default_factory=DropLog)


class Span(NamedTuple):
    """A call of a flush and the event rows that are its own."""

    call: EventsCall
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """A flush and the calls it answers."""

    flush: Flush
    creates: list[CreateCall] = field(default_factory=list[CreateCall])
    claims: list[ClaimCall] = field(default_factory=list[ClaimCall])
    spans: list[Span] = field(default_factory=list[Span])
    cancels: list[CancelCall] = field(default_factory=list[CancelCall])


def settle(books: Books, batch: Batch, answer: FlushAnswer) -> None:
    """Answer every call of a flush that the database carried out."""
    for place, created in enumerate(batch.creates):
        _settle_create(books, created, answer, place)
    if books.changes.awaits_arrivals and _any_arrived(batch, answer):
        books.changes.publish_arrival()
    for claim, won in zip(batch.claims, answer.claims, strict=True):
        _settle_claim(books, claim, won)
    if batch.spans:
        books.meter.flush(len(batch.flush.rows))
        _settle_rows(books, batch, answer)
    for cancel, met in zip(batch.cancels, answer.cancels, strict=True):
        _settle_cancel(books, cancel, met)


def _any_arrived(batch: Batch, answer: FlushAnswer) -> bool:
    """Whether a task waits for a claim since this flush."""
    if len(answer.existing) < len(batch.creates):
        return True
    kept_off = {*answer.overruled, *(row.row for row in answer.refused)}
    return any(given.row not in kept_off for given in batch.flush.give_ups)


def fail(books: Books, call: Call, error: BaseException) -> None:
    """Count the events of a call that ends with an error at its caller (invariant I7)."""
    why = error_type_of(error)
    if isinstance(call, EventsCall):
        for type_, _, _ in call.events:
            books.meter.ledger.fail(type_, why, 1)
    elif isinstance(call, ClaimCall):
        books.meter.ledger.fail(TASK_STARTED, why, 1)
    elif isinstance(call, CancelCall):
        books.meter.ledger.fail(FINAL, why, 1)


def as_running(task: Task, owner: str, won: ClaimAnswer) -> Task:
    """The task as its claim left it."""
    # Not dataclasses.replace, which takes twice as long: there is one of these for every run.
    return Task(
        task_id=task.task_id,
        op=task.op,
        params=task.params,
        status=TaskStatus.RUNNING,
        attempt=won.attempt,
        owner=owner,
        created_at=task.created_at,
        run_at=task.run_at,
        claimed_at=won.claimed_at,
        finished_at=None,
        lease_expires_at=won.lease_expires_at,
        timeout=task.timeout,
        retries=task.retries,
        retries_spent=task.retries_spent,
        idempotency_key=task.idempotency_key,
        traceparent=task.traceparent,
        cancel=task.cancel,
        error_code=task.error_code,
        key=task.key,
    )


def _settle_create(books: Books, call: CreateCall, answer: FlushAnswer, place: int) -> None:
    row: CreateRow = call.row
    found = answer.existing.get(place)
    if found is None:
        books.tasks.submitted(row.op)
        call.answer((as_pending(row, call.params, answer.now, answer.keys[place]), True))
        return
    try:
        call.answer((match_existing(found, row), False))
    except IdempotencyConflict as error:
        call.reject(error)


def match_existing(found: Task, row: CreateRow) -> Task:
    """The task that stands where ``row`` was to go. Raises ``IdempotencyConflict``."""
    if found.task_id == row.task_id or found.params == decode(row.params):
        return found
    raise IdempotencyConflict(found.op, found.idempotency_key or "", found.task_id)


def as_pending(row: CreateRow, params: Mapping[str, Any], now: int, key: int) -> Task:
    """The task as its creation at ``now`` left it."""
    return Task(
        task_id=row.task_id,
        op=row.op,
        params=params,
        status=TaskStatus.PENDING,
        attempt=0,
        owner=None,
        created_at=now,
        run_at=now if row.run_at is None else row.run_at,
        claimed_at=None,
        finished_at=None,
        lease_expires_at=None,
        timeout=row.timeout,
        retries=row.retries,
        idempotency_key=row.idempotency_key,
        traceparent=row.traceparent,
        cancel=None,
        error_code=None,
        key=key,
    )


def _settle_claim(books: Books, call: ClaimCall, won: ClaimAnswer | None) -> None:
    if won is None:
        books.meter.ledger.replay(1)  # somebody else has the task: no task_started was offered
        call.answer(None)
        return
    row: ClaimRow = call.row
    writer = call.writer
    books.meter.ledger.store(TASK_STARTED, 1)
    writer.key, writer.op, writer.tail, writer.offers = row.key, call.task.op, won.started_seq, 1
    writer.claimed = books.clock.monotonic()
    if books.changes.follows(row.task_id):
        started = Event(won.started_seq, TASK_STARTED, row.ts, won.attempt, decode(row.body))
        books.changes.publish(Change(row.task_id, won.started_seq, (started,)))
    call.answer(won)


def _settle_rows(books: Books, batch: Batch, answer: FlushAnswer) -> None:
    rows = batch.flush.rows
    refused = {row.row: row for row in answer.refused}
    if not refused:
        stored = Counter(map(_type_of, rows))
    else:
        stored = Counter(row.type for place, row in enumerate(rows) if place not in refused)
    if answer.overruled:  # these became finals
        stored[ATTEMPT_FAILED] -= len(answer.overruled)
        stored[FINAL] += len(answer.overruled)
    for type_, count in stored.items():
        books.meter.ledger.store(type_, count)
    followed = books.changes.any_follower
    for span in batch.spans:
        met = refused.get(span.start) if refused else None
        if met is None:
            overruled = answer.overruled.get(span.start) if answer.overruled else None
            _settle_stored(books, batch.flush, span, followed, overruled)
        else:
            _settle_refused(books, span, met)


def _settle_stored(
    books: Books, flush: Flush, span: Span, followed: bool, overruled: CancelRequest | None
) -> None:
    call = span.call
    writer = call.writer
    first = writer.tail + 1
    writer.tail += span.stop - span.start
    if isinstance(call, GiveUpCall) and overruled is not None:
        _settle_overruled(books, call, overruled)
        return
    if followed and books.changes.follows(writer.task_id):
        events = tuple(
            Event(row.seq, row.type, row.ts, row.attempt, decode(row.body))
            for row in flush.rows[span.start : span.stop]
        )
        books.changes.publish(Change(writer.task_id, writer.tail, events))
    if isinstance(call, FinishCall):
        _count_final(books, writer, call.final, call.events[0][2])
        call.answer(Finished(True, None, call.final.outcome, writer.tail))
    elif isinstance(call, GiveUpCall):
        call.answer(GivenUp(None, None, None, writer.tail))
    else:
        call.answer(Appended(range(first, writer.tail + 1), None, writer.tail))


def _settle_overruled(books: Books, call: GiveUpCall, request: CancelRequest) -> None:
    """A cancel on record made the ``attempt_failed`` the cancelled task's ``final``."""
    writer, ts = call.writer, call.events[0][2]
    final = Final.cancelled(request, call.error if call.spends else None)
    if books.changes.follows(writer.task_id):
        event = Event(writer.tail, FINAL, ts, writer.attempt, final.as_json())
        books.changes.publish(Change(writer.task_id, writer.tail, (event,)))
    _count_final(books, writer, final, ts)
    call.answer(GivenUp(final, None, final.outcome, writer.tail))


def _count_final(books: Books, writer: Writer, final: Final, ts: int) -> None:
    seconds = 0.0 if writer.claimed is None else books.clock.monotonic() - writer.claimed
    error_type = final.error.code if final.error and final.outcome is Outcome.FAILED else None
    reason = final.cancel.reason.value if final.cancel else None
    books.tasks.finished(
        writer.op,
        final.outcome.value,
        error_type,
        seconds,
        cancel_reason=reason,
        context=writer.context,
    )
    if final.outcome is Outcome.CANCELLED and final.cancel is not None:
        waited = max(0, ts - final.cancel.at) / 1e6
        books.tasks.cancel_finished(final.cancel.reason.value, waited, context=writer.context)
    books.meter.tape_closed(writer.tail)


def _settle_refused(books: Books, span: Span, met: RefusedRow) -> None:
    call, writer = span.call, span.call.writer
    if met.reason is None:
        books.meter.ledger.replay(1)  # the tape's own final, sent again: no new offer
    else:
        outcome: str | None = TAPE_OPEN if met.outcome is None else met.outcome.value
        if met.reason is DropReason.UNKNOWN_TASK:
            outcome = None
        for type_, _, _ in call.events:
            books.meter.dropped(met.reason.value, type_, met.op, outcome, context=writer.context)
        books.drops.note(writer, met.op, met.reason, len(call.events))
    if isinstance(call, FinishCall):
        call.answer(Finished(met.reason is None, met.reason, met.outcome, met.last_seq))
    elif isinstance(call, GiveUpCall):
        call.answer(GivenUp(None, met.reason, met.outcome, met.last_seq))
    else:
        call.answer(Appended(range(0), met.reason, met.last_seq))


def _settle_cancel(books: Books, call: CancelCall, met: CancelAnswer | None) -> None:
    row: CancelRow = call.row
    if met is not None and met.state is CancelState.CANCELLED:
        books.meter.ledger.store(FINAL, 1)
        books.tasks.cancel_requested(row.reason)
        books.tasks.finished(met.op, Outcome.CANCELLED.value, None, 0.0, cancel_reason=row.reason)
        books.tasks.cancel_finished(row.reason, 0.0)
        books.meter.tape_closed(met.last_seq)
        if books.changes.follows(row.task_id):
            final = Event(met.last_seq, FINAL, row.ts, met.attempt, decode(row.body))
            books.changes.publish(Change(row.task_id, met.last_seq, (final,)))
    else:
        books.meter.ledger.replay(1)  # it was not pending: no final was offered
    if met is not None and met.request is not None:
        if met.state is CancelState.RECORDED:
            books.tasks.cancel_requested(row.reason)
        if met.state in (CancelState.RECORDED, CancelState.ALREADY_RECORDED):
            books.changes.tell_owner(met.owner, row.task_id, met.request)
    call.answer(met)
