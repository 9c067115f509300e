"""The judge: whether a recorded history and what the store now holds keep the invariants.

One oracle for every test that runs tasks. Each rule adds its violations to a list, so that one run
shows all that is wrong with it. The rules' numbers are those of ``docs/reference/invariants.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tapescope.codec import encode
from tapescope.model.answers import Appended, Finished
from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.leases import GivenUp, Rescued, RescueResult
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    TASK_STARTED,
    DropReason,
    Event,
    Outcome,
)
from tapescope.model.tasks import CancelReason, Claim, Task, TaskStatus
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.port import TaskStore
from tapescope.testing._case import Breach, Case, read_case
from tapescope.testing._history import History, RecordedCall, RecordedOrder
from tapescope.testing._spans import SpanRecord, check_spans
from tapescope_telemetry import LedgerReading

__all__ = ["check"]

_OFFERING = ("append", "finish", "retry_later", "release")
"""The verbs of a run, whose events may be dropped."""


async def check(
    history: History,
    store: TaskStore,
    *,
    spans: Sequence[SpanRecord] | None = None,
    dropped_metric: int | None = None,
    ended_metric: Mapping[str, int] | None = None,
    ledger: LedgerReading | None = None,
) -> list[Breach]:
    """All that is wrong with what ``history`` recorded, judged at rest; empty when all is well.

    ``spans``, when given, are all that were exported (I8). ``dropped_metric`` is the sum of the
    ``tapescope.tape.event.dropped`` counter (I7), and ``ended_metric`` the number of tasks in the
    ``tapescope.task.duration`` histogram by outcome (I2): of a process all of whose calls the
    history has, while no other one ends its tasks. ``ledger`` is that of the process which made the
    history, where ``store`` is another one's. Only tasks that the history names are looked at,
    and of those the history must have every writing call; so it must of all the tasks that the
    store does not know, for past their cap a store only counts them together.
    """
    by_task: defaultdict[str, list[RecordedCall]] = defaultdict(list)
    for call in history.calls:
        by_task[call.task_id].append(call)
    cut = _Cut(history.orders)
    runs: defaultdict[str, list[SpanRecord]] = defaultdict(list)
    for span in spans or ():
        if span.name.startswith("run "):
            runs[str((span.attributes or {}).get("tapescope.task.id"))].append(span)
    found: list[Breach] = []
    tape_events = persisted = unknown = 0
    ends: list[tuple[str, bool]] = []
    for task_id, calls in by_task.items():
        case = await read_case(store, task_id, calls)
        tape_events += len(case.tape)
        if case.final is not None:
            ends.append((str(case.final.body["outcome"]), _is_told_of_end(case)))
        if case.task is None:
            unknown += _refusals(case)[0].total()
        else:
            persisted += case.dropped
            _check_drops(case)
        _check_tape(case)
        _check_answers(case)
        _check_order(case)
        never_run = _check_explained(case, cut)
        if spans is not None:
            check_spans(case, runs[task_id], never_run)
        found += case.found
    found += _check_follows(history, {v.task_id for v in found if v.invariant == "I3"})
    if unknown:
        counted = (await store.read_quarantine(limit=1)).counts.get(DropReason.UNKNOWN_TASK, 0)
        persisted += counted
        if counted < unknown:
            detail = f"{unknown} events of unknown tasks were refused, {counted} counted"
            found.append(Breach("I7", None, detail))
    if ledger is None:
        ledger = store.meter.ledger.read()
    found += _check_ledger(history, ledger, tape_events, persisted, dropped_metric, cut.explained)
    if ended_metric is not None:
        found += _check_ended(ended_metric, ends)
    return found


def _check_tape(case: Case) -> None:
    """I1, I2, I3, I5 of the tape as it stands."""
    finals = [event.seq for event in case.tape if event.type == FINAL]
    if len(finals) > 1:
        case.broken("I1", f"finals at seq {finals}")
    if finals and finals[-1] != case.tape[-1].seq:
        case.broken("I1", f"the final at seq {finals[-1]} is not last: {case.tape[-1].seq} is")
    if case.final_seq != (finals[0] if finals else None):
        case.broken("I1", f"the page says final_seq {case.final_seq}, the tape {finals}")
    seqs = [event.seq for event in case.tape]
    if seqs != list(range(1, len(seqs) + 1)) or case.last_seq != len(seqs):
        case.broken("I3", f"seq runs {_shortened(seqs)}, and last_seq is {case.last_seq}")
    if case.task is not None:
        _check_outcome(case, case.task)
    attempts = [event.attempt for event in case.tape]
    if attempts != sorted(attempts):
        case.broken("I5", f"attempts took turns on the tape: {_shortened(attempts)}")


def _check_outcome(case: Case, task: Task) -> None:
    final = case.final
    if task.status.terminal and final is None:
        case.broken("I2", f"the row is {task.status.value} and the tape has no final")
    elif final is not None and final.body["outcome"] != task.status.value:
        case.broken("I2", f"row {task.status.value}, final {final.body['outcome']}")


def _check_answers(case: Case) -> None:
    """I6: what was acknowledged is on the tape, under the seq and with the text that was told."""
    tape = case.by_seq
    taken: Counter[int] = Counter()
    for call in case.calls:
        if call.ended is None:
            case.broken("I7", f"a {call.verb} was never answered")
        answer = call.answer
        if isinstance(answer, Appended):
            taken.update(answer.stored)
            if len(answer.stored) != (0 if answer.dropped else len(call.offers)):
                case.broken("I6", f"{len(call.offers)} events were answered with {answer}")
            for seq, (type_, text) in zip(answer.stored, call.offers, strict=False):
                stored = tape.get(seq)
                if stored is None:
                    case.broken("I6", f"acknowledged event {seq} ({type_}) is not on the tape")
                elif (stored.type, stored.attempt) != (type_, call.attempt) or (
                    encode(stored.body, "event") != text
                ):
                    case.broken("I6", f"event {seq} is not what was acknowledged: {stored}")
        elif isinstance(answer, Finished):
            _check_finished(case, call, answer)
        elif isinstance(answer, CancelAnswer):
            _check_cancel(case, answer)
        elif isinstance(answer, GivenUp | Rescued):
            _check_given_up(case, call, answer)
        elif isinstance(answer, Claim):
            if call.attempt not in case.starts:
                case.broken("I6", f"attempt {call.attempt} was claimed and has no task_started")
            _check_in_time(case, answer)
    claims = Counter(call.attempt for call in case.calls if isinstance(call.answer, Claim))
    for attempt, times in claims.items():
        if times > 1:
            case.broken("I5", f"attempt {attempt} was given to {times} claims")
    twice = [seq for seq, times in taken.items() if times > 1]
    if twice:
        case.broken("I3", f"seq {_shortened(sorted(twice))} was given to two calls")


def _check_in_time(case: Case, claim: Claim) -> None:
    """No first attempt begins once the time that its task had for that is over."""
    task = claim.task
    if claim.attempt.number > 1 or task.expires_in is None or task.claimed_us is None:
        return
    late = task.claimed_us - (replace(task, attempt=0).expires_us or 0)
    if late >= 0:
        case.broken("I5", f"its first attempt began {late / 1e6:g} s after it had expired")


def _check_finished(case: Case, call: RecordedCall, answer: Finished) -> None:
    final, status = case.final, case.task.status if case.task else None
    if answer.won and (final is None or final.attempt != call.attempt):
        case.broken("I6", f"the final of attempt {call.attempt} won and is not on the tape")
    elif answer.won and final is not None and encode(final.body, "result") != call.offers[0][1]:
        case.broken("I6", "the final on the tape is not the one that won")
    if answer.outcome is not None and (status is None or answer.outcome.value != status.value):
        case.broken("I4", f"a finish was told {answer.outcome.value}, the row now says {status}")


def _check_given_up(case: Case, call: RecordedCall, answer: GivenUp | Rescued) -> None:
    """I6, I5: the event that ended the attempt is where it was told, and the attempt's last."""
    if isinstance(answer, GivenUp):
        if answer.dropped is not None:
            return
        ended = answer.final is not None
    else:
        ended = answer.result is not RescueResult.RETRIED
    type_ = FINAL if ended else ATTEMPT_RELEASED if call.verb == "release" else ATTEMPT_FAILED
    at = case.by_seq.get(answer.last_seq)
    if at is None or (at.type, at.attempt) != (type_, call.attempt):
        case.broken("I6", f"attempt {call.attempt} gave up at {answer.last_seq}: {at}")
    elif case.ends.get(call.attempt, 0) > at.seq:
        case.broken("I5", f"attempt {call.attempt} wrote on after it gave up at {at.seq}")


def _check_cancel(case: Case, answer: CancelAnswer) -> None:
    status = case.task.status if case.task else None
    if answer.state is CancelState.CANCELLED and status is not TaskStatus.CANCELLED:
        case.broken("I4", f"a cancel ended the task, the row now says {status}")
    expired = answer.request is not None and answer.request.reason is CancelReason.EXPIRED
    if answer.state is CancelState.CANCELLED and expired and case.starts:
        case.broken("I5", "it ended as expired, and an attempt had begun")
    if answer.state is CancelState.TERMINAL and (status is None or not status.terminal):
        case.broken("I4", f"a cancel found the task ended, the row now says {status}")


def _check_order(case: Case) -> None:
    """I6: of two calls of an attempt, one that ended before the other began comes first."""
    appended = [
        (call, call.answer)
        for call in case.calls
        if isinstance(call.answer, Appended) and call.answer.stored
    ]
    ends = sorted(
        (call.ended or 0, call.attempt, answer.stored.stop - 1) for call, answer in appended
    )
    highest: dict[int, int] = {}
    last_nowait: dict[int, int] = {}
    place = 0
    for call, answer in appended:
        while place < len(ends) and ends[place][0] < call.began:
            _, attempt, seq = ends[place]
            highest[attempt] = max(seq, highest.get(attempt, 0))
            place += 1
        before = highest.get(call.attempt, 0)
        if call.nowait:
            before = max(before, last_nowait.get(call.attempt, 0))
            last_nowait[call.attempt] = answer.stored.stop - 1
        if answer.stored.start <= before:
            case.broken("I6", f"event {answer.stored.start} comes before the earlier {before}")


class _Cut:
    """What orders may have written whose answers went to nobody: no more than each could take."""

    def __init__(self, orders: Iterable[RecordedOrder]) -> None:
        self.explained = 0
        """Events that only such an order explains."""
        self._left: Counter[tuple[str, str]] = Counter()
        """By verb and owner how many events more."""
        for order in orders:
            if order.cut_by:
                self._left[order.verb, order.owner] += order.limit

    def explains(self, event: Event) -> bool:
        """Whether a cut order may have written this event; then it is taken from what is left."""
        if event.type == TASK_STARTED:
            name = "claim", str(event.body["owner"])
        elif event.type in (FINAL, ATTEMPT_FAILED) and _is_of_rescue(event.body):
            name = "rescue", ""
        else:
            return False
        explained = self._left[name] > 0
        self._left[name] -= explained
        self.explained += explained
        return explained


def _is_of_rescue(body: Mapping[str, Any]) -> bool:
    error = body.get("error")
    if body.get("outcome") == Outcome.CANCELLED.value:
        return error is None  # by the rescue of a task that was to be cancelled
    return error is not None and error["code"] == WORKER_LOST


def _check_explained(case: Case, cut: _Cut) -> set[int]:
    """I7: every event on the tape was offered, and no caller of it was told otherwise.

    Gives the attempts that were claimed by an order whose answer went to nobody: none was run.
    """
    never_run: set[int] = set()
    told: set[int] = set()
    unknown: Counter[tuple[str, int, str]] = Counter()
    for call in case.calls:
        if isinstance(call.answer, Appended):
            told.update(call.answer.stored)
        elif isinstance(call.answer, Rescued) or (
            isinstance(call.answer, GivenUp) and call.answer.dropped is None
        ):
            told.add(call.answer.last_seq)
        elif isinstance(call.answer, Claim):
            told.update(case.starts.get(call.attempt, ()))
        elif _tells_of_end(call):
            told.update(event.seq for event in case.by_seq.values() if event.type == FINAL)
        elif not call.fate_known:
            unknown.update((type_, call.attempt, text) for type_, text in call.offers)
    for event in case.tape:
        if event.seq in told:
            continue
        text = encode(event.body, "event")
        offered = [
            (event.type, event.attempt, text),
            (event.type, event.attempt, ""),
            (event.type, 0, ""),  # a cancel does not say of which attempt it is
        ]
        if event.type == FINAL and event.body["outcome"] == Outcome.CANCELLED.value:
            # the one that a cancel on record put in the place of what gave the task up
            offered += [(type_, event.attempt, "") for type_ in (ATTEMPT_FAILED, ATTEMPT_RELEASED)]
        name = next((name for name in offered if unknown[name] > 0), None)
        if name is None and cut.explains(event):
            if event.type == TASK_STARTED:
                never_run.add(event.attempt)
            continue
        if name is None:
            case.broken("I7", f"no caller was told that event {event.seq} ({event.type}) is stored")
        else:
            unknown[name] -= 1
    return never_run


def _tells_of_end(call: RecordedCall) -> bool:
    """Whether its answer says that it has ended the task."""
    answer = call.answer
    if isinstance(answer, Finished):
        return answer.won
    if isinstance(answer, CancelAnswer):
        return answer.state is CancelState.CANCELLED
    if isinstance(answer, Rescued):
        return answer.result is not RescueResult.RETRIED
    return isinstance(answer, GivenUp) and answer.final is not None


def _is_told_of_end(case: Case) -> bool:
    return any(_tells_of_end(call) for call in case.calls)


def _check_ended(counted: Mapping[str, int], ends: Iterable[tuple[str, bool]]) -> list[Breach]:
    """I2: each ``final`` is counted once; one that no caller was told of may not be."""
    told: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for outcome, known in ends:
        held[outcome] += 1
        told[outcome] += known
    return [
        Breach("I2", None, f"{held[one]} tasks are {one}, the metric says {counted.get(one, 0)}")
        for one in dict.fromkeys([*held, *counted])
        if not told[one] <= counted.get(one, 0) <= held[one]
    ]


def _refusals(case: Case) -> tuple[Counter[DropReason], int]:
    """Events whose callers were told that they were dropped, and how many more may have been."""
    refused: Counter[DropReason] = Counter()
    perhaps = 0
    for call in case.calls:
        if isinstance(call.answer, Appended | Finished | GivenUp) and (
            call.answer.dropped is not None
        ):
            refused[call.answer.dropped] += len(call.offers)
        elif not call.fate_known and call.verb in _OFFERING:
            perhaps += len(call.offers)
    return refused, perhaps


def _check_drops(case: Case) -> None:
    """I7: refused answers, quarantine and persisted count agree."""
    refused, perhaps = _refusals(case)
    if not refused.total() <= case.dropped <= refused.total() + perhaps:
        case.broken("I7", f"{refused.total()} refused answers, {case.dropped} counted as dropped")
    kept = case.kept.total()
    if kept + case.overflow != case.dropped:
        case.broken("I7", f"{kept} kept and {case.overflow} over, {case.dropped} counted")
    for reason in refused:
        if case.counts.get(reason, 0) < refused[reason]:
            case.broken("I7", f"{refused[reason]} were refused as {reason.value}: {case.counts}")


def _check_follows(history: History, gapped: set[str | None]) -> list[Breach]:
    """I9: a follower saw every seq after its start once and in order, up to the ``final``."""
    found: list[Breach] = []
    for follow in history.follows:
        if follow.task_id in gapped:
            continue  # the tape itself is at fault, and is reported as that
        seqs = [event.seq for event in follow.events]
        first = follow.after_seq + 1
        if seqs != list(range(first, first + len(seqs))):
            detail = f"a follower after seq {follow.after_seq} saw {_shortened(seqs)}"
            found.append(Breach("I9", follow.task_id, detail))
        elif follow.ended and follow.events and follow.events[-1].type != FINAL:
            found.append(Breach("I9", follow.task_id, "a follower ended before the final"))
    return found


def _check_ledger(
    history: History,
    now: LedgerReading,
    tape_events: int,
    persisted: int,
    dropped_metric: int | None,
    cut: int,
) -> list[Breach]:
    """I7: the process's ledger balances, and agrees with what the store holds."""
    found: list[Breach] = []
    before = history.began_with
    if now.in_flight or now.unaccounted:
        found.append(Breach("I7", None, f"the ledger does not balance at rest: {now}"))
    if before is None:
        return found
    unknown = sum(len(call.offers) for call in history.calls if not call.fate_known)
    for name, counted, held, may_be in (
        ("stored", now.stored - before.stored, tape_events, unknown + cut),
        ("dropped", now.dropped - before.dropped, persisted, unknown),
    ):
        if not counted <= held <= counted + may_be:
            detail = f"{counted} events counted as {name}, the store holds {held}"
            found.append(Breach("I7", None, detail))
    if dropped_metric is not None and dropped_metric != now.dropped:
        detail = f"the metric says {dropped_metric} dropped, the ledger {now.dropped}"
        found.append(Breach("I7", None, detail))
    return found


def _shortened(numbers: Sequence[int]) -> str:
    return str(list(numbers)) if len(numbers) <= 12 else f"{list(numbers[:12])}… ({len(numbers)})"
