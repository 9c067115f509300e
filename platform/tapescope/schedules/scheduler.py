"""The loop that makes the tasks of schedules, on the one worker of many that fires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tapescope.errors import (
    BadSetting,
    StoreClosed,
    StoreUnavailable,
    TapescopeError,
    UnknownTask,
)
from tapescope.model.schedules import CatchUp, FiringOutcome, Overlap, Schedule
from tapescope.model.telemetry import LoopName
from tapescope.schedules.timing import Timing
from tapescope.service import LoopService, Vitals
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.clock import Clock
    from tapescope.store.port import TaskStore

__all__ = ["Fire", "Scheduler"]

_log = Logger("tapescope")

Fire = Callable[[Schedule, int], Awaitable[tuple[str, bool]]]
"""Makes the task of a schedule for a firing time, in microseconds since the Unix epoch, or finds
the one that was made: gives its id, and whether it is new. Raises what the store raises."""

_EVERY: Final = 5.0
"""Seconds between two looks at the store, and so until what another process added is known."""
_LEASE: Final = 15.0
"""Seconds after which others fire when the one that did fell silent."""
_REVIEW_EVERY: Final = 600.0
"""Seconds between two looks at all schedules, for next times that no clock makes any more."""
_PROMPT: Final = 60_000_000
"""Microseconds after which a firing is late: it is caught up with, or missed."""
_SLACK: Final = 30.0
"""Seconds more that a round may take before the loop is said to be stuck."""
_CALLS: Final = 8
"""Calls of the store, one after the other, between two signs of life."""
_RESIGN_WITHIN: Final = 2.0
"""Seconds that a stop waits for the store to let others fire; else the lease does it later."""
_TRIES: Final = 3
"""How often a firing is put on a row that others change meanwhile."""


class Scheduler(LoopService):
    """Fires what is due, while this worker is the one that fires.

    A firing makes its task first, by a key of the schedule and the time, and then sets the next
    time, if nobody has changed the row: so what a crash leaves, or two workers do at once, is one
    task (docs/decisions/0073). An error of the store is warned of, and the round is tried again.
    """

    def __init__(
        self,
        store: TaskStore,
        owner: str,
        *,
        fire: Fire,
        knows: Callable[[str], Awaitable[bool]],
        declare: Callable[[], Awaitable[None]],
        clock: Clock | None = None,
    ) -> None:
        """``knows`` says whether a worker of the store can run an op; ``declare`` tells the store
        what the code declares, where it was not told yet. ``clock`` is the store's ``due_clock``,
        unless a test has another one."""
        vitals = Vitals(
            LoopName.SCHEDULER,
            store.telemetry.loop_failed,
            _EVERY + _CALLS * store.patience + _SLACK,
        )
        super().__init__("tapescope-scheduler", vitals)
        self._store = store
        self._owner = owner
        self._fire_one = fire
        self._knows = knows
        self._declare = declare
        self._clock = clock or store.due_clock
        self._wake = asyncio.Event()
        self._candidate = False
        """Whether it has asked to be the one that fires, and perhaps is."""
        self._until: int | None = None
        """Until when it fires, by the clock; ``None``: it does not."""
        self._reviewed_at: float | None = None
        self._warned: dict[str, str] = {}
        """By schedule, what was warned of."""

    @property
    def fires(self) -> bool:
        """Whether this worker was the one that fires when it last looked."""
        return self._until is not None

    def wake(self) -> None:
        """A schedule was added or changed here: look at once."""
        self._wake.set()

    async def _end(self) -> None:
        await super()._end()
        if self._candidate:  # also when it was stopped before the store's answer came
            try:
                async with asyncio.timeout(_RESIGN_WITHIN):
                    await self._store.schedules.resign_firing(self._owner)
            except (TapescopeError, TimeoutError) as error:
                _log.info("The firing of %s ends with its lease: %s", self._owner, error)

    async def _run(self) -> None:
        away = False
        while True:
            self._wake.clear()
            self.vitals.beat()
            try:
                pause = await self.run_once()
            except TapescopeError as error:
                if not away:
                    _log.warning("Schedules are not fired from here now: %s", error)
                away, pause = True, _EVERY
                self._until = None  # another worker may have more luck: the lease is not renewed
            else:
                if away:
                    _log.info("Schedules are fired from here again.")
                away = False
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the next round is due

    async def run_once(self) -> float:
        """Fire what is due, if this worker is to; the seconds until the next look is worth while.

        Raises what the store raises.
        """
        schedules, clock = self._store.schedules, self._clock
        if self._store.due_clock.doubtful or self._reviewed_at is None:
            await self._store.measure_skew()
        await self._declare()
        await self._review()
        now = clock.now()
        due = [schedule async for schedule in schedules.list_due(now)]
        coming = await schedules.find_next(now)
        soon = coming is not None and coming - now < _LEASE * 1e6
        if not (due or soon) or not await self._acquire(now):
            return _EVERY
        for schedule in due:
            self.vitals.beat()
            await self._fire_alone(schedule, now)
            if not await self._acquire(clock.now()):
                return _EVERY
        coming = await schedules.find_next(now)  # what was fired has its next time now
        if coming is None:
            return _EVERY
        return min(_EVERY, max(0.0, (coming - clock.now()) / 1e6))

    async def _acquire(self, now: int) -> bool:
        """Be the one that fires; asked again when half of the lease is over."""
        left = 0.0 if self._until is None else (self._until - now) / 1e6
        if _LEASE / 2 < left <= _LEASE:  # more is left where the clock was set back
            return True
        self._candidate = True
        held = await self._store.schedules.acquire_firing(self._owner, now, _LEASE)
        self._until = now + round(_LEASE * 1e6) if held else None
        return held

    async def _review(self) -> None:
        """Set next times right that are later than any clock now says.

        A wall clock that was ahead has put them off, or a time zone has other rules since. Where
        that gives a time that was fired, its task is there, and no other is made.
        """
        at = self._clock.monotonic()
        if self._reviewed_at is not None and at - self._reviewed_at < _REVIEW_EVERY:
            return
        self._reviewed_at = at
        now = self._clock.now()
        async for schedule in self._store.schedules.iterate():
            timing = self._read(schedule)
            if timing is None or schedule.next_us is None:
                continue
            # A minute ahead: the clock of who fired last may be so a little.
            first = timing.find_next(now + _PROMPT)
            if first is not None and schedule.next_us > first:
                await self._store.schedules.change_if_same(replace(schedule, next_us=first))

    def _read(self, schedule: Schedule) -> Timing | None:
        try:
            return Timing.of(schedule)
        except BadSetting as error:
            self._warn(schedule, f"its times cannot be read here: {error}")
            return None

    async def _fire_alone(self, schedule: Schedule, now: int) -> None:
        """Fire a schedule; what is wrong with it alone holds up no other. Raises what all meet."""
        try:
            await self._fire(schedule, now)
        except (StoreClosed, StoreUnavailable):
            raise
        except TapescopeError as error:
            self._warn(schedule, str(error))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this one's
            self.vitals.failed(error)

    async def _fire(self, schedule: Schedule, now: int) -> None:
        """Make the tasks of the times that have passed, and set the next time."""
        timing = self._read(schedule)
        if timing is None:
            return
        if not await self._knows(schedule.op):
            self._warn(
                schedule, f"no worker has registered the op {schedule.op!r}; it waits for one"
            )
            return
        self._warned.pop(schedule.name, None)
        assert schedule.next_us is not None, "it is due"
        passed = timing.list_passed(schedule.next_us, now)
        wanted = _choose(schedule.catch_up, passed, now)
        skipped = {FiringOutcome.MISSED: len(passed) - len(wanted), FiringOutcome.OVERLAPPED: 0}
        fired = replace(schedule, next_us=timing.find_next(now))
        made = False
        for time in wanted:
            if schedule.overlap is Overlap.SKIP and await self._runs(fired.last_task):
                skipped[FiringOutcome.OVERLAPPED] += 1
                continue
            task_id, created = await self._fire_one(schedule, time)
            made = made or created
            fired = replace(fired, last_us=time, last_task=task_id)
            if created:
                late = self._clock.now() - time
                outcome = FiringOutcome.CAUGHT_UP if now - time > _PROMPT else FiringOutcome.FIRED
                self._store.telemetry.schedules.fired(schedule.op, outcome, late / 1e6)
        if await self._store.schedules.change_if_same(fired):
            for outcome, n in skipped.items():
                self._store.telemetry.schedules.skipped(schedule.op, outcome, n)
        elif made:
            await self._note(fired)

    async def _note(self, fired: Schedule) -> None:
        """Put the last task on a row that has been changed meanwhile: it is asked whether it ended.

        Its next time is left as it is. Should it be this firing's, the task is there by then.
        """
        for _ in range(_TRIES):
            kept = await self._store.schedules.find(fired.name)
            if kept is None or (kept.last_us or 0) >= (fired.last_us or 0):
                return
            noted = replace(kept, last_us=fired.last_us, last_task=fired.last_task)
            if await self._store.schedules.change_if_same(noted):
                return

    async def _runs(self, task_id: str | None) -> bool:
        """Whether a task has not ended; one that was pruned has."""
        if task_id is None:
            return False
        try:
            return not (await self._store.get(task_id)).status.terminal
        except UnknownTask:
            return False

    def _warn(self, schedule: Schedule, why: str) -> None:
        """Say once what hinders a schedule."""
        if self._warned.get(schedule.name) != why:
            self._warned[schedule.name] = why
            _log.warning("The schedule %s is not fired: %s", schedule.name, why)


def _choose(policy: CatchUp, passed: Sequence[int], now: int) -> Sequence[int]:
    """The firing times for which tasks are to be made, of those that have passed."""
    if policy is CatchUp.ALL:
        return passed
    if policy is CatchUp.SKIP and passed and now - passed[-1] > _PROMPT:
        return []
    return passed[-1:]
