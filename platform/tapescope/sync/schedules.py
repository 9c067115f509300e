"""``SyncSchedules``: the verbs of ``manager.schedules`` as plain calls, from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from tapescope.model.schedules import Schedule, SchedulePage, ScheduleTimes
from tapescope.sync.handle import SyncHandle

if TYPE_CHECKING:
    from tapescope.manager import Op, Submission, TaskManager
    from tapescope.sync.door import Door

__all__ = ["SyncSchedules"]


class SyncSchedules:
    """The schedules of the manager's store: see ``ManagerSchedules``.

    A ``SyncManager`` that submits only declares no schedules: the workers do that. What it adds is
    kept in the store, and fired by them.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> Schedule:
        """Add a schedule to the store: see ``ManagerSchedules.add``."""
        return self._door.call(
            lambda manager: manager.schedules.add(name, what, params=params, **times)
        )

    def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it so: see ``ManagerSchedules.ensure``."""
        return self._door.call(
            lambda manager: manager.schedules.ensure(name, what, params=params, **times)
        )

    def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name: ``after`` is the page before's ``next``."""
        return self._door.call(lambda manager: manager.schedules.list(after=after, limit=limit))

    def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return self._door.call(lambda manager: manager.schedules.get(name))

    def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return self._door.call(lambda manager: manager.schedules.pause(name))

    def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``."""
        return self._door.call(lambda manager: manager.schedules.resume(name))

    def trigger(self, name: str, *, idempotency_key: str | None = None) -> SyncHandle:
        """Make a task of it now, paused or not; one for a key. Raises ``UnknownSchedule``."""

        async def trigger(manager: TaskManager) -> SyncHandle:
            handle = await manager.schedules.trigger(name, idempotency_key=idempotency_key)
            return SyncHandle(self._door, handle.task_id, handle, manager.owner)

        return self._door.call(trigger)

    def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``."""
        self._door.call(lambda manager: manager.schedules.remove(name))
