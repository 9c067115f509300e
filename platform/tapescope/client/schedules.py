"""``Client.schedules`` and ``SyncClient.schedules``: the verbs of ``manager.schedules``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tapescope.client.verbs import Verbs
from tapescope.client.wire import run_blocking
from tapescope.errors import ScheduleTaken
from tapescope.model.schedules import CatchUp, Overlap, Schedule, SchedulePage

if TYPE_CHECKING:
    from tapescope.client.client import ClientTask
    from tapescope.client.sync_client import SyncClientTask
    from tapescope.manager import Op, Submission

__all__ = ["ClientSchedules", "SyncClientSchedules"]


class ClientSchedules:
    """The schedules of a server's store, which its workers fire: ``Client.schedules``.

    To read them takes the scope ``read``, to trigger one ``submit``, and to change them ``admin``.
    Each verb may be asked for again: what was done by a try whose reply was lost is not done twice,
    and is no error.
    """

    def __init__(self, verbs: Verbs, make_task: Callable[[str, bool], ClientTask]) -> None:
        """Made by the client."""
        self._verbs = verbs
        self._make_task = make_task

    async def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        cron: str | None = None,
        every: float | None = None,
        params: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        catch_up: CatchUp | str = CatchUp.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> Schedule:
        """Add a schedule of an op that the server or a worker of its store has registered.

        As ``ManagerSchedules.add``. Raises ``ScheduleTaken``, ``OpNotRegistered``, ``BadSetting``,
        ``BadOp``, ``BadParams``.
        """
        schedule, added = await self.ensure(
            name,
            what,
            cron=cron,
            every=every,
            params=params,
            time_zone=time_zone,
            catch_up=catch_up,
            overlap=overlap,
        )
        if not added:
            raise ScheduleTaken(name)
        return schedule

    async def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        cron: str | None = None,
        every: float | None = None,
        params: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        catch_up: CatchUp | str = CatchUp.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it as it is given here; says whether it was added.

        Raises what ``add`` raises; ``ScheduleTaken`` where another one has the name.
        """
        op, plain, timeout, retries = _read_what(what, params)
        return await self._verbs.ensure_schedule(
            name,
            op,
            params=plain,
            timeout=timeout,
            retries=retries,
            cron=cron,
            every=every,
            time_zone=time_zone,
            catch_up=catch_up,
            overlap=overlap,
        )

    async def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name, of at most 1,000: ``after`` is the page before's ``next``.

        With a token for some ops it has theirs alone, and may have fewer than ``limit`` and yet a
        next.
        """
        return await self._verbs.list_schedules(after=after, limit=limit)

    async def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return await self._verbs.get_schedule(name)

    async def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return await self._verbs.pause_schedule(name)

    async def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``."""
        return await self._verbs.resume_schedule(name)

    async def trigger(self, name: str, *, idempotency_key: str | None = None) -> ClientTask:
        """Make a task of it now, paused or not. A key is made here where none is given.

        Raises ``UnknownSchedule``, ``OpNotRegistered``.
        """
        task_id, created = await self._verbs.trigger_schedule(name, idempotency_key=idempotency_key)
        return self._make_task(task_id, created)

    async def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``.

        One that code declares comes back with the next worker that opens: pause it.
        """
        await self._verbs.remove_schedule(name)


class SyncClientSchedules:
    """The verbs of ``ClientSchedules`` as plain calls: ``SyncClient.schedules``."""

    def __init__(self, verbs: Verbs, make_task: Callable[[str, bool], SyncClientTask]) -> None:
        """Made by the client."""
        self._verbs = verbs
        self._make_task = make_task

    def add(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        cron: str | None = None,
        every: float | None = None,
        params: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        catch_up: CatchUp | str = CatchUp.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> Schedule:
        """Add a schedule: see ``ClientSchedules.add``."""
        schedule, added = self.ensure(
            name,
            what,
            cron=cron,
            every=every,
            params=params,
            time_zone=time_zone,
            catch_up=catch_up,
            overlap=overlap,
        )
        if not added:
            raise ScheduleTaken(name)
        return schedule

    def ensure(
        self,
        name: str,
        what: Op[..., Any, Any] | Submission | str,
        *,
        cron: str | None = None,
        every: float | None = None,
        params: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        catch_up: CatchUp | str = CatchUp.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> tuple[Schedule, bool]:
        """Add a schedule, unless the store has it so: see ``ClientSchedules.ensure``."""
        op, plain, timeout, retries = _read_what(what, params)
        return run_blocking(
            self._verbs.ensure_schedule(
                name,
                op,
                params=plain,
                timeout=timeout,
                retries=retries,
                cron=cron,
                every=every,
                time_zone=time_zone,
                catch_up=catch_up,
                overlap=overlap,
            )
        )

    def list(self, *, after: str | None = None, limit: int = 100) -> SchedulePage:
        """A page of schedules, by name: ``after`` is the page before's ``next``."""
        return run_blocking(self._verbs.list_schedules(after=after, limit=limit))

    def get(self, name: str) -> Schedule:
        """A schedule by its name. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.get_schedule(name))

    def pause(self, name: str) -> Schedule:
        """Have it make no tasks until ``resume``. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.pause_schedule(name))

    def resume(self, name: str) -> Schedule:
        """Have it make tasks again, at its times from now on. Raises ``UnknownSchedule``."""
        return run_blocking(self._verbs.resume_schedule(name))

    def trigger(self, name: str, *, idempotency_key: str | None = None) -> SyncClientTask:
        """Make a task of it now, paused or not: see ``ClientSchedules.trigger``."""
        task_id, created = run_blocking(
            self._verbs.trigger_schedule(name, idempotency_key=idempotency_key)
        )
        return self._make_task(task_id, created)

    def remove(self, name: str) -> None:
        """Delete it; the tasks that it made stay. Raises ``UnknownSchedule``."""
        run_blocking(self._verbs.remove_schedule(name))


def _read_what(
    what: Op[..., Any, Any] | Submission | str, params: Mapping[str, Any] | None
) -> tuple[str, Mapping[str, Any], float | None, int | None]:
    """The op, params, timeout and retries of what is to be submitted. Raises ``BadSetting``."""
    if isinstance(what, str):
        return what, {} if params is None else params, None, None
    from tapescope.manager.ops import find_submission  # whose values the caller has: it is there

    submission = find_submission(what, params)
    return submission.op, submission.params, submission.timeout, submission.retries
