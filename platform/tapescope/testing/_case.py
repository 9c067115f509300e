"""A case before the judge: one task, what its callers were told, and what the store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tapescope.errors import UnknownTask
from tapescope.model.answers import Appended, Finished
from tapescope.model.leases import GivenUp
from tapescope.model.tape import FINAL, TASK_STARTED, DropReason, Event
from tapescope.model.tasks import Task
from tapescope.store.port import TaskStore
from tapescope.testing._history import RecordedCall

__all__ = ["Breach", "Case", "Invariant", "read_case"]

Invariant = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9"]


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant that does not hold, where, and how it shows."""

    invariant: Invariant
    task_id: str | None
    """``None`` for what concerns the whole store."""
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} of {self.task_id or 'the store'}: {self.detail}"


@dataclass(slots=True)
class Case:
    """One task: what the callers were told, and what the store holds."""

    task_id: str
    calls: list[RecordedCall]
    task: Task | None
    """``None``: the store has no such task."""
    tape: list[Event]
    last_seq: int
    final_seq: int | None
    dropped: int
    """The persisted count."""
    kept: Counter[DropReason]
    counts: Mapping[DropReason, int]
    overflow: int
    found: list[Breach] = field(default_factory=list[Breach])
    final: Event | None = field(default=None, init=False)
    """The first ``final`` of the tape, if it has one."""
    by_seq: dict[int, Event] = field(default_factory=dict[int, Event], init=False)
    starts: dict[int, list[int]] = field(default_factory=dict[int, list[int]], init=False)
    """By attempt where its ``task_started`` stands."""
    ends: dict[int, int] = field(default_factory=dict[int, int], init=False)
    """By attempt its last event, a ``final`` aside."""

    def __post_init__(self) -> None:
        """Read the tape once, however many calls are compared with it."""
        for event in self.tape:
            self.by_seq[event.seq] = event
            if event.type == FINAL:
                self.final = self.final or event
                continue
            self.ends[event.attempt] = event.seq
            if event.type == TASK_STARTED:
                self.starts.setdefault(event.attempt, []).append(event.seq)

    def broken(self, invariant: Invariant, detail: str) -> None:
        """Note a violation."""
        self.found.append(Breach(invariant, self.task_id, detail))


async def read_case(store: TaskStore, task_id: str, calls: list[RecordedCall]) -> Case:
    """Read all that the store holds of a task."""
    tape: list[Event] = []
    last_seq, final_seq, dropped = 0, None, 0
    try:
        task = await store.get(task_id)
    except UnknownTask:
        task = None
    while task is not None:
        page = await store.read_tape(task_id, after_seq=tape[-1].seq if tape else 0)
        tape += page.events
        last_seq, final_seq, dropped = page.last_seq, page.final_seq, page.dropped
        if not page.events or page.events[-1].seq >= page.last_seq:
            break
    kept: Counter[DropReason] = Counter()
    counts: Mapping[DropReason, int] = {}
    overflow, after = 0, 0
    if task is None or dropped or any(_may_have_dropped(call) for call in calls):
        while True:
            drops = await store.read_quarantine(task_id, after=after)
            kept.update(drop.reason for drop in drops.drops)
            counts, overflow = drops.counts, drops.overflow
            if drops.next is None:
                break
            after = drops.next
    if task is None:
        dropped = sum(counts.values())
    return Case(task_id, calls, task, tape, last_seq, final_seq, dropped, kept, counts, overflow)


def _may_have_dropped(call: RecordedCall) -> bool:
    answer = call.answer
    return not call.fate_known or (
        isinstance(answer, Appended | Finished | GivenUp) and answer.dropped is not None
    )
