"""``manager.schedules``: the schedules of a store, added, listed, paused, triggered and removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from tapescope.errors import ScheduleTaken
from tapescope.manager.declared_schedules import declare_schedule, set_next
from tapescope.manager.ops import Op, find_submission
from tapescope.manager.submission import Submission
from tapescope.model.schedules import Schedule, ScheduleOrigin, SchedulePage, ScheduleTimes
from tapescope.schedules import Timing, is_declared_so

if TYPE_CHECKING:
    from tapescope.manager.handle import TaskHandle
    from tapescope.store.port import TaskStore

__all__ = ["ManagerSchedules"]


class ManagerSchedules:
    """The schedules of the manager's store: ``manager.schedules``.

    A schedule makes a task at each of its times, whichever worker of the store is there: see
    docs/howto/schedules.md. Each verb raises ``ManagerClosed`` where the manager is not open,
    and what the store raises.
    """

    def __init__(
        self,
        open_store: Callable[[], TaskStore],
        *,
        encode: Callable[[Submission], Mapping[str, Any]],
        changed: Callable[[], object],
        trigger: Callable[[Schedule, str | None], Awaitable[TaskHandle]],
    ) -> None:
        """Made by the manager, with what the verbs need of it."""
        self._store = open_store
        self._encode = encode
        self._changed = changed
        self._trigger = trigger

    async def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> Schedule:
        """Add a schedule to the store; the arguments are those of ``Ops.schedule``.

        Raises ``ScheduleTaken``, ``BadSetting``, ``BadOp``, ``BadParams``.
        """
        schedule, added = await self.ensure(name, what, params=params, **times)
        if not added:
            raise ScheduleTaken(name)
        return schedule

    async def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it as it is given here; says whether it was added.

        So it may be done again. A pause stays. Raises ``ScheduleTaken`` where the store has another
        one of the name, and what ``add`` raises.
        """
        submission = find_submission(what, params)
        declared = declare_schedule(name, submission, ScheduleOrigin.STORE, **times)
        store = self._store()
        schedule = declared.encoded(self._encode(declared.submission))
        schedule = await set_next(store, schedule)
        while not await store.schedules.add_if_absent(schedule):
            kept = await store.schedules.find(name)
            if kept is None:
                continue  # it was removed meanwhile
            if not is_declared_so(schedule, kept):
                raise ScheduleTaken(name)
            return kept, False
        self._changed()
        return await store.schedules.get(name), True

    async def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name: ``after`` is the page before's ``next``."""
        return await self._store().schedules.list(after=after, limit=limit)

    async def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return await self._store().schedules.get(name)

    async def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return await self._store().schedules.change(name, lambda kept: replace(kept, paused=True))

    async def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``.

        What passed while it was paused is not caught up with.
        """
        store = self._store()
        now = store.due_clock.now()

        def run_again(kept: Schedule) -> Schedule:
            if not kept.paused:
                return kept
            return replace(kept, paused=False, next_us=Timing.of(kept).find_next(now))

        schedule = await store.schedules.change(name, run_again)
        self._changed()
        return schedule

    async def trigger(self, name: str, *, idempotency_key: str | None = None) -> TaskHandle:
        """Make a task of it now, paused or not, whatever its policies. Its times stay as they are.

        With a key the same one again gives the task that it made before. Raises
        ``UnknownSchedule``.
        """
        store = self._store()
        return await self._trigger(await store.schedules.get(name), idempotency_key)

    async def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``.

        One that code declares comes back with the next worker that opens: pause it.
        """
        await self._store().schedules.remove(name)
