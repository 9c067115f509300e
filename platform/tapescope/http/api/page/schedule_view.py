"""A schedule as the pages show it: its times, and what became of the last one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.errors import BadSetting, UnknownTask
from tapescope.http.access import Caller, Scope
from tapescope.schedules import Timing

if TYPE_CHECKING:
    from tapescope.model.backlog import OpBacklog
    from tapescope.model.schedules import Schedule
    from tapescope.model.tasks import Task
    from tapescope.store.port import TaskStore

__all__ = ["OVERDUE", "ScheduleView", "list_upcoming", "view_schedules"]

OVERDUE: Final = 60_000_000
"""Microseconds past its time from which a schedule is overdue: a firing is caught up with then."""
_UPCOMING: Final = 5


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule, and what can be said of it now."""

    schedule: Schedule
    last: Task | None
    """The task of its last firing; ``None`` where it has none, or retention has deleted it."""
    lateness: float | None
    """Seconds from its last firing time to when the task was created."""
    overdue: bool
    """Whether its next time passed over a minute ago, and it is not paused."""
    unattended: bool
    """Whether no living worker runs its op: it waits for one."""


async def view_schedules(
    store: TaskStore,
    schedules: Iterable[Schedule],
    ops: Mapping[str, OpBacklog],
    caller: Caller,
) -> list[ScheduleView]:
    """The views of these schedules; ``ops`` is the backlog by op."""
    now = store.due_clock.now()
    views: list[ScheduleView] = []
    for one in schedules:
        last = await _find_last(store, one, caller)
        made = None if last is None or one.last_us is None else last.created_us - one.last_us
        known = ops.get(one.op)
        overdue = not one.paused and one.next_us is not None and now > one.next_us + OVERDUE
        views.append(
            ScheduleView(
                one,
                last,
                None if made is None else max(0, made) / 1e6,
                overdue,
                known is None or not known.workers,
            )
        )
    return views


async def _find_last(store: TaskStore, schedule: Schedule, caller: Caller) -> Task | None:
    if schedule.last_task is None:
        return None
    try:
        task = await store.get(schedule.last_task)
    except (UnknownTask, BadSetting):  # deleted by retention; or its row was written past tapescope
        return None
    return task if caller.may(Scope.READ, task.op, task.tags) else None


def list_upcoming(schedule: Schedule, now: int) -> list[int]:
    """The next firing times of a schedule that fires, in microseconds since the Unix epoch."""
    times: list[int] = []
    if schedule.next_us is None:
        return times
    timing, at = Timing.of(schedule), schedule.next_us
    while len(times) < _UPCOMING:
        times.append(at)
        following = timing.find_next(max(at, now))
        if following is None:
            break
        at = following
    return times
