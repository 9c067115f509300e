"""What a caller sees of schedules and does with them, by the API or by a form of a page.

Here alone it is asked who may, and told in the log of acts what was done (docs/decisions/0083).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from tapescope.errors import OpNotRegistered, UnknownSchedule
from tapescope.http.access import Caller, Scope
from tapescope.http.api.problems import Refused
from tapescope.http.api.state import acting, state_of
from tapescope.http.api.task_acts import keep_hidden
from tapescope.http.api.visible import find_visible
from tapescope.manager import Submission
from tapescope.model.schedules import Schedule, SchedulePage
from tapescope.store.validation import check_op

if TYPE_CHECKING:
    from starlette.requests import Request

    from tapescope.http.api.schemas import ScheduleBody
    from tapescope.manager import TaskHandle

__all__ = [
    "add_schedule",
    "list_visible",
    "pause_schedule",
    "remove_schedule",
    "resume_schedule",
    "see_schedule",
    "trigger_schedule",
]


async def list_visible(
    request: Request,
    caller: Caller,
    after: str | None,
    limit: int,
    *,
    op: str | None = None,
    looked: int | None = None,
) -> SchedulePage:
    """A page of the schedules whose tasks the caller may read, by name; with ``op``, of that one.

    Past ``looked`` of others, at first 10,000, the page ends, perhaps empty, and has a next one.
    """
    schedules = state_of(request).manager.schedules
    if op is None and caller.may(Scope.READ):
        return await schedules.list(after=after, limit=limit)

    async def read(behind: str | None, n: int) -> tuple[Sequence[Schedule], str | None]:
        page = await schedules.list(after=behind, limit=n)
        return page.schedules, page.next

    def sees(one: Schedule) -> bool:
        return caller.may(Scope.READ, one.op, one.tags) and op in (None, one.op)

    found = await find_visible(read, sees, attrgetter("name"), after, limit, looked)
    return SchedulePage(*found)


async def see_schedule(request: Request, caller: Caller, name: str) -> Schedule:
    """A schedule. Raises ``UnknownSchedule``, also where the caller may not see it."""
    schedule = await state_of(request).manager.schedules.get(name)
    if not caller.may(Scope.READ, schedule.op, schedule.tags):
        raise UnknownSchedule(name)
    return schedule


async def add_schedule(
    request: Request, caller: Caller, body: ScheduleBody
) -> tuple[Schedule, bool]:
    """Add a schedule; says whether it was not there before.

    Raises ``OpNotRegistered``, and what ``ManagerSchedules.ensure`` raises.
    """
    manager = state_of(request).manager
    with acting(request, caller, "add", f"of schedule {body.name!r}") as became:
        if not await manager.knows_op(check_op(body.op)):
            raise OpNotRegistered(body.op)
        what = Submission(
            body.op,
            params=body.params,
            timeout=body.timeout,
            retries=body.retries,
            priority=body.priority,
            tags=body.tags,
            queue=body.queue,
        )
        schedule, added = await manager.schedules.ensure(
            body.name,
            what,
            cron=body.cron,
            every=body.every,
            time_zone=body.time_zone,
            catch_up=body.catch_up,
            overlap=body.overlap,
        )
        became.append("added" if added else "it was there")
    return schedule, added


async def pause_schedule(request: Request, caller: Caller, name: str) -> Schedule:
    """Have it make no tasks. Raises ``UnknownSchedule``."""
    with acting(request, caller, "pause", f"of schedule {name!r}") as became:
        schedule = await state_of(request).manager.schedules.pause(name)
        became.append("paused")
    return schedule


async def resume_schedule(request: Request, caller: Caller, name: str) -> Schedule:
    """Have it make tasks again. Raises ``UnknownSchedule``."""
    with acting(request, caller, "resume", f"of schedule {name!r}") as became:
        schedule = await state_of(request).manager.schedules.resume(name)
        became.append("resumed")
    return schedule


async def trigger_schedule(
    request: Request, caller: Caller, name: str, idempotency_key: str | None
) -> tuple[TaskHandle, str]:
    """Make a task of it now; gives the task and its op.

    Raises ``UnknownSchedule``, also where the caller may not see it, ``Refused``, and
    ``OpNotRegistered``: as by every submit over HTTP.
    """
    manager = state_of(request).manager
    with acting(request, caller, "trigger", f"of schedule {name!r}") as became:
        schedule = await manager.schedules.get(name)
        op = schedule.op
        if not caller.may(Scope.SUBMIT, op, schedule.tags):
            if not caller.may(Scope.READ, op, schedule.tags):
                raise UnknownSchedule(name)
            raise Refused(403, "Forbidden", f"The token lacks the scope '{Scope.SUBMIT}:{op}'.")
        if not await manager.knows_op(op):
            raise OpNotRegistered(op)
        with state_of(request).submits.waits():
            made = manager.schedules.trigger(name, idempotency_key=idempotency_key)
            handle = await keep_hidden(request, caller, op, made)
        became.append(f"task {handle.task_id}" + ("" if handle.created else ", which was there"))
    return handle, op


async def remove_schedule(request: Request, caller: Caller, name: str) -> Schedule:
    """Delete it; gives what it was. Raises ``UnknownSchedule``."""
    schedules = state_of(request).manager.schedules
    with acting(request, caller, "remove", f"of schedule {name!r}") as became:
        schedule = await schedules.get(name)
        await schedules.remove(name)
        became.append("removed")
    return schedule
