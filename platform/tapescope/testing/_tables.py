"""What a ``MemoryStore`` holds: rows with their tapes, and the quarantine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tapescope.model.leases import TracedAttempt
from tapescope.model.messages import InboxRow
from tapescope.model.tape import (
    FINAL,
    MESSAGE_TAKEN,
    DropFilter,
    DroppedEvent,
    DropReason,
    Outcome,
    QuarantinePage,
)
from tapescope.model.tasks import Task
from tapescope.store.flush import ClaimAnswer, EventRow, FlushRefused, TraceRow
from tapescope.store.tape_rules import check_next_event, drop_event, start_tape, take_message
from tapescope.store.task_rows import StoredTask, as_ended, as_given_up, as_running
from tapescope.store.validation import StoreLimits

__all__ = ["Quarantine", "Record"]


@dataclass(slots=True)
class Record:
    """A task's row and its tape. ``task`` is replaced, never changed: who read it keeps it."""

    task: Task
    tape: list[EventRow] = field(default_factory=list[EventRow])
    traces: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    """By attempt the trace and the span of its run."""
    inbox: list[InboxRow] = field(default_factory=list[InboxRow])
    """The messages of the task, by their numbers from 1."""

    @property
    def last_seq(self) -> int:
        """The tape's end, 0 when it is empty."""
        return len(self.tape)

    @property
    def final(self) -> EventRow | None:
        """The tape's ``final``; ``None`` while it is open."""
        return self.tape[-1] if self.tape and self.tape[-1].type == FINAL else None

    @property
    def outcome(self) -> Outcome | None:
        """How the task ended; ``None`` while it lives."""
        return Outcome(self.task.status.value) if self.task.status.terminal else None

    @property
    def last(self) -> EventRow | None:
        """The tape's last event; ``None`` when it is empty."""
        return self.tape[-1] if self.tape else None

    def put(self, row: EventRow, now: int) -> None:
        """Append an event, and let a ``final`` end the task. Raises ``FlushRefused``."""
        check_next_event(self.task, self.last, row)
        if row.type == FINAL:
            self.task = as_ended(self.task, row, now)
        elif row.type == MESSAGE_TAKEN:
            take_message(self.inbox, row)
        self.tape.append(row)

    def make_running(self, owner: str, lease: int, now: int, ts: int, body: str) -> int:
        """Claim the pending task; gives the ``seq`` of the ``task_started``."""
        won = ClaimAnswer(self.task.attempt + 1, now, now + lease, self.last_seq + 1)
        self.task = as_running(self.task, owner, won)
        self.put(start_tape(self.task, self.last, ts, body), now)
        return won.started_seq

    def make_pending(
        self, run_at: int, spends: int, owner: str | None = None, lease: int | None = None
    ) -> None:
        """The attempt gave the task up, or was taken from it."""
        self.task = as_given_up(self.task, run_at, spends, owner, lease)

    def with_drops(self, quarantine: Quarantine) -> StoredTask:
        """All that is held of the task, for the audit and for a repair."""
        return StoredTask(self.task, self.tape, *quarantine.tally(self.task.task_id))

    def trace(self, row: TraceRow) -> None:
        """Keep where an attempt's run span is, once."""
        self.traces.setdefault(row.attempt, (row.trace_id, row.span_id))

    def list_traced(self) -> Iterator[TracedAttempt]:
        """The attempts whose run spans are kept, in their order."""
        for attempt, (trace, span) in sorted(self.traces.items()):
            task = self.task
            yield TracedAttempt(task.task_id, task.op, task.status, attempt, trace, span, task.tags)

    def remember(self, undo: ExitStack) -> None:
        """Have ``undo`` bring back the row and the tape as they are now."""
        task, length, inbox = self.task, len(self.tape), list(self.inbox)

        def restore() -> None:
            self.task = task
            del self.tape[length:]
            self.inbox = inbox

        undo.callback(restore)


class Quarantine:
    """The dropped events: bounded in number, while their count goes on."""

    def __init__(self) -> None:
        self.limits = StoreLimits()
        self._kept: defaultdict[str, list[tuple[int, DroppedEvent]]] = defaultdict(list)
        self._counts: defaultdict[str, Counter[DropReason]] = defaultdict(Counter)
        self._last_offers: dict[tuple[str, int, str], int] = {}
        self._identities: dict[tuple[str, int, str, int], int] = {}
        """Of each event that is kept, which one it is, and its number."""
        self._number = 0
        self._unknown = 0

    def last_offer(self, task_id: str, attempt: int, owner: str) -> int:
        """The attempt's highest offer that was dropped; 0 for none."""
        return self._last_offers.get((task_id, attempt, owner), 0)

    def count(self, task_id: str) -> int:
        """Events dropped of a task, kept or not."""
        return self._counts[task_id].total() if task_id in self._counts else 0

    def drop(
        self,
        task_id: str,
        row: EventRow,
        reason: DropReason,
        record: Record | None,
        trace_id: str | None,
        undo: ExitStack,
    ) -> None:
        """Count a late event, and keep it while there is room.

        Raises ``FlushRefused`` for one that is kept already: an event is known by its task,
        attempt, owner and offer.
        """
        counts = self._counts[task_id]
        counts[reason] += 1
        undo.callback(counts.subtract, [reason])
        identity = (task_id, row.attempt, row.owner)
        undo.callback(self._last_offers.__setitem__, identity, self._last_offers.get(identity, 0))
        self._last_offers[identity] = row.offer
        kept = self._kept[task_id]
        if record is None:
            if self._unknown >= self.limits.quarantine_unknown:
                return
            self._count_unknown(1)
            undo.callback(self._count_unknown, -1)
        elif len(kept) >= self.limits.quarantine_per_task:
            return
        which = (*identity, row.offer)
        if which in self._identities:
            raise FlushRefused(f"{which} is in the quarantine")
        self._keep(which, row, reason, record, trace_id)
        undo.callback(self._identities.pop, which)
        undo.callback(kept.pop)

    def keep(self, task_id: str, row: EventRow, reason: DropReason, record: Record) -> None:
        """Count and keep what a repair took off a tape, whatever the bounds say."""
        self._counts[task_id][reason] += 1
        which = (task_id, row.attempt, "repair", row.offer)
        if which not in self._identities:
            self._keep(which, row, reason, record, None)

    def correct(self, task_id: str, reason: DropReason, n: int) -> None:
        """Count so many events of this reason."""
        self._counts[task_id][reason] = n

    def _keep(
        self,
        which: tuple[str, int, str, int],
        row: EventRow,
        reason: DropReason,
        record: Record | None,
        trace_id: str | None,
    ) -> None:
        final = None if record is None else record.final
        self._number += 1
        drop = drop_event(which[0], row, reason, final, trace_id)
        self._kept[which[0]].append((self._number, drop))
        self._identities[which] = self._number

    def read(self, wanted: DropFilter, after: int, limit: int, look_at: int) -> QuarantinePage:
        """A page of one task's drops, or of all."""
        tasks = list(self._counts) if wanted.task_id is None else [wanted.task_id]
        counts: Counter[DropReason] = Counter()
        kept: list[tuple[int, DroppedEvent]] = []
        for of in tasks:
            counts += self._counts.get(of, Counter())
            kept += self._kept.get(of, [])
        ahead = sorted(
            ((number, drop) for number, drop in kept if number > after), key=lambda pair: pair[0]
        )
        looked_at = ahead[:look_at] if wanted.by_time else ahead
        found = [pair for pair in looked_at if wanted.admits(pair[1])]
        page = found[:limit]
        next_ = None
        if len(found) > limit:
            next_ = page[-1][0]
        elif len(looked_at) < len(ahead):
            next_ = looked_at[-1][0]
        drops = tuple(drop for _, drop in page)
        if not wanted.counted:
            return QuarantinePage(drops, 0, next_, {})
        return QuarantinePage(drops, counts.total() - len(kept), next_, counts)

    def tally(self, task_id: str) -> tuple[Counter[DropReason], Counter[DropReason]]:
        """By reason the events of a task that are kept, and those that were counted."""
        kept = Counter(drop.reason for _, drop in self._kept.get(task_id, []))
        return kept, Counter({r: n for r, n in self._counts.get(task_id, Counter()).items() if n})

    def forget_counts(self, task_id: str) -> None:
        """Forget how many events of a task were dropped: it goes, and its counts with it."""
        self._counts.pop(task_id, None)

    def oldest(self, after: int, limit: int) -> list[tuple[int, int]]:
        """(number, time) of the next events that are kept, in the order in which they came."""
        kept = [pair for of_one in self._kept.values() for pair in of_one if pair[0] > after]
        return [(number, drop.ts_us) for number, drop in sorted(kept, key=lambda p: p[0])[:limit]]

    def delete(self, numbers: Sequence[int]) -> int:
        """Delete events; the counts of an unknown task go with its last one."""
        gone, deleted = set(numbers), 0
        for which in [one for one, number in self._identities.items() if number in gone]:
            del self._identities[which]
        for task_id, kept in list(self._kept.items()):
            left = [pair for pair in kept if pair[0] not in gone]
            deleted += len(kept) - len(left)
            unknown = sum(drop.reason is DropReason.UNKNOWN_TASK for n, drop in kept if n in gone)
            self._count_unknown(-unknown)
            self._kept[task_id] = left
            if unknown and not left:
                del self._counts[task_id][DropReason.UNKNOWN_TASK]
        return deleted

    def _count_unknown(self, n: int) -> None:
        self._unknown += n
