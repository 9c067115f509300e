"""Schedulers over a store, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tapescope import NewTask, Schedule, TaskStore, read_firing
from tapescope.clock import Clock
from tapescope.model.tasks import FinalEvent
from tapescope.model.times import as_microseconds
from tapescope.schedules import Scheduler, define
from tapescope.schedules.timing import Timing
from tapescope.store.validation import new_task_id

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_800_000_000 * SECOND
"""A full hour of 2027."""


class HandClock(Clock):
    """Wall and steady time, each as far as a test has set it."""

    def __init__(self, at: int = START) -> None:
        self.at = at
        self.steady = 0.0

    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return self.at

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self.steady

    def pass_time(self, seconds: float) -> None:
        """Both go on."""
        self.at += round(seconds * SECOND)
        self.steady += seconds


async def _known(op: str) -> bool:
    return op != "unknown"


async def _nothing() -> None:
    pass


def make_fire(store: TaskStore) -> Callable[[Schedule, int], Awaitable[tuple[str, bool]]]:
    """Makes the task of a firing in the store, by its key."""

    async def fire(schedule: Schedule, at: int) -> tuple[str, bool]:
        key = schedule.key_of(at)
        new = NewTask(new_task_id(), schedule.op, schedule.params, idempotency_key=key)
        task, created = await store.create(new)
        return task.task_id, created

    return fire


def make_scheduler(
    store: TaskStore,
    clock: Clock,
    owner: str = "a",
    *,
    fire: Callable[[Schedule, int], Awaitable[tuple[str, bool]]] | None = None,
    knows: Callable[[str], Awaitable[bool]] = _known,
) -> Scheduler:
    """One worker's scheduler, whose rounds a test asks for."""
    return Scheduler(
        store, owner, fire=fire or make_fire(store), knows=knows, declare=_nothing, clock=clock
    )


async def add(store: TaskStore, clock: Clock, name: str = "s", **settings: object) -> Schedule:
    """Add a schedule, of every hour unless it has other times, and give its row."""
    if "cron" not in settings:
        settings.setdefault("every", 3_600)
    op = str(settings.pop("op", "work"))
    schedule = define(name, op, {"n": 1}, **settings)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of several types
    row = replace(schedule, next_us=Timing.of(schedule).find_next(clock.now()))
    assert await store.schedules.add_if_absent(row)
    return await store.schedules.get(name)


async def list_fired(store: TaskStore) -> list[int]:
    """When each task was to be made, in seconds since the start, in the order they were made."""
    tasks = (await store.list(limit=10_000)).tasks
    fired = [read_firing(task.idempotency_key) for task in reversed(tasks)]
    return [(as_microseconds(one.at) - START) // SECOND for one in fired if one and one.at]


async def end_all(store: TaskStore) -> None:
    """End every task that waits."""
    for task in (await store.list(limit=1_000)).tasks:
        if not task.status.terminal:
            claim = await store.claim_if_pending(task, "worker", 60)
            assert claim is not None
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
