"""What became of the demo's tasks, and whether every event is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapescope.model.tape import DroppedEvent, TapePage
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope_telemetry import LedgerReading

__all__ = ["DemoSummary", "read_summary"]


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What the store holds of the tasks, and what was counted while they ran."""

    tasks: tuple[Task, ...]
    drops: tuple[DroppedEvent, ...]
    stored: int
    """Events on the tapes, read back from the store."""
    dropped: int
    """Events that came too late, read back from the store."""
    counted: LedgerReading
    failed_tape: TapePage | None
    """The longest tape of a shell command that failed."""

    @property
    def adds_up(self) -> bool:
        """Whether what was counted is what the store holds (invariant I7)."""
        counted = self.counted
        return (counted.unaccounted, counted.stored, counted.dropped) == (
            0,
            self.stored,
            self.dropped,
        )


async def read_summary(store: TaskStore, task_ids: Sequence[str]) -> DemoSummary:
    """Read back what the store holds of these tasks."""
    tasks = [await store.get(task_id) for task_id in task_ids]
    ends = [await store.read_tape(task_id, limit=1) for task_id in task_ids]
    drops: list[DroppedEvent] = []
    for end in ends:
        if end.dropped:
            drops += (await store.read_quarantine(end.task_id)).drops
    return DemoSummary(
        tasks=tuple(tasks),
        drops=tuple(drops),
        stored=sum(end.last_seq for end in ends),
        dropped=sum(end.dropped for end in ends),
        counted=store.meter.ledger.read(),
        failed_tape=await _read_failed_tape(store, tasks),
    )


async def _read_failed_tape(store: TaskStore, tasks: Sequence[Task]) -> TapePage | None:
    failed = [task for task in tasks if task.op == "shell" and task.status is TaskStatus.FAILED]
    tapes = [await store.read_tape(task.task_id) for task in failed]
    return max(tapes, key=lambda tape: tape.last_seq, default=None)
