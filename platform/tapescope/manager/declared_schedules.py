"""Schedules as registries of ops declare them, and how the store is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tapescope.codec import decode, encode
from tapescope.errors import BadParams, NotJson
from tapescope.manager.submission import Submission
from tapescope.model.schedules import CatchUp, Overlap, Schedule, ScheduleOrigin
from tapescope.schedules import Timing, define, merge

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["DeclaredSchedule", "declare_schedule", "set_next", "tell_schedule"]


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A schedule as code says it: what it submits has its params as the runner takes them."""

    schedule: Schedule
    """Without params."""
    submission: Submission

    def encoded(self, params: Mapping[str, Any]) -> Schedule:
        """With its params as they are stored. Raises ``BadParams``."""
        try:
            plain = decode(encode(dict(params), "params"))  # as the store gives them back
        except NotJson as error:
            raise BadParams(error.why) from error
        return replace(self.schedule, params=plain)


def declare_schedule(
    name: str,
    submission: Submission,
    origin: ScheduleOrigin,
    *,
    cron: str | None = None,
    every: float | None = None,
    time_zone: str = "UTC",
    catch_up: CatchUp | str = CatchUp.ONE,
    overlap: Overlap | str = Overlap.ALLOW,
) -> DeclaredSchedule:
    """A schedule that is checked but for its params. Raises ``BadSetting``, ``BadOp``."""
    schedule = define(
        name,
        submission.op,
        {},
        timeout=submission.timeout,
        retries=submission.retries,
        priority=submission.priority,
        tags=submission.tags,
        queue=submission.queue,
        expires_in=submission.expires_in,
        cron=cron,
        every=every,
        time_zone=time_zone,
        catch_up=catch_up,
        overlap=overlap,
        origin=origin,
    )
    return DeclaredSchedule(schedule, submission)


async def tell_schedule(store: TaskStore, declared: Schedule) -> None:
    """Have the store know a schedule that code declares (docs/decisions/0074)."""
    while True:
        kept = await store.schedules.find(declared.name)
        if kept is None:
            if await store.schedules.add_if_absent(await set_next(store, declared)):
                return
            continue
        wanted = merge(declared, kept, store.due_clock.now())
        if wanted is None or await store.schedules.change_if_same(wanted):
            return


async def set_next(store: TaskStore, schedule: Schedule) -> Schedule:
    """The schedule with its first firing time, by the clock of the database."""
    if store.due_clock.doubtful or not store.due_clock.told:
        await store.measure_skew()
    return replace(schedule, next_us=Timing.of(schedule).find_next(store.due_clock.now()))
