"""What a caller sees of paused ops and of workers, and stops of them, by the API or by a form of a
page.

Here alone it is asked who may, and told in the log of acts what was done (docs/decisions/0087).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from tapescope.http.access import Caller, Scope
from tapescope.http.api.problems import Refused
from tapescope.http.api.state import acting, state_of
from tapescope.http.api.task_acts import need_ops
from tapescope.http.api.visible import find_visible
from tapescope.model.ops import Drain, Pause, PausePage, WorkerPage

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = [
    "drain_worker",
    "list_visible_pauses",
    "list_workers",
    "may_see_workers",
    "pause_op",
    "resume_op",
    "undrain_worker",
]


async def list_visible_pauses(
    request: Request, caller: Caller, after: str | None, limit: int
) -> PausePage:
    """A page of the paused ops that the caller may read, by name.

    Past 10,000 of others the page ends, perhaps empty, and has a next one. Raises ``Refused`` for
    a token of tags alone.
    """
    need_ops(caller)
    ops = state_of(request).manager.store.ops
    if caller.may(Scope.READ):
        return await ops.list_paused(after=after, limit=limit)

    async def read(behind: str | None, n: int) -> tuple[Sequence[Pause], str | None]:
        page = await ops.list_paused(after=behind, limit=n)
        return page.pauses, page.next

    def sees(one: Pause) -> bool:
        return caller.may(Scope.READ, one.op)

    return PausePage(*await find_visible(read, sees, attrgetter("op"), after, limit))


async def pause_op(request: Request, caller: Caller, op: str, reason: str) -> Pause:
    """Have no worker claim its tasks; gives the pause that is in force: the first one.

    Raises what ``StoreOps.pause`` raises.
    """
    with acting(request, caller, "pause", f"of op {op!r}") as became:
        pause = await state_of(request).manager.store.ops.pause(op, reason=reason, by=caller.name)
        became.append("paused")
    return pause


async def resume_op(request: Request, caller: Caller, op: str) -> Pause | None:
    """Have the workers claim its tasks again; gives the pause that ended, if any.

    Raises what ``StoreOps.resume`` raises.
    """
    with acting(request, caller, "resume", f"of op {op!r}") as became:
        ended = await state_of(request).manager.store.ops.resume(op)
        became.append("resumed" if ended is not None else "it was not paused")
    return ended


def may_see_workers(caller: Caller) -> bool:
    """Whether the caller may list workers: each is of many ops, and counts the runs of all."""
    return caller.may(Scope.READ)


async def list_workers(
    request: Request, caller: Caller, after: str | None, limit: int
) -> WorkerPage:
    """A page of who works on the store, by owner. Raises ``Refused`` for a token of some tasks."""
    need_ops(caller)
    if not may_see_workers(caller):
        detail = "A worker is of many ops, and the token is for some. Ask for the numbers of an op."
        raise Refused(403, "Forbidden", detail)
    return await state_of(request).manager.store.ops.list_workers(after=after, limit=limit)


async def drain_worker(request: Request, caller: Caller, owner: str, reason: str) -> Drain:
    """Have a worker claim no more tasks; gives the drain that is in force: the first one.

    Raises ``UnknownWorker``, and what ``StoreOps.drain`` raises.
    """
    with acting(request, caller, "drain", f"of worker {owner!r}") as became:
        ops = state_of(request).manager.store.ops
        drain = await ops.drain(owner, reason=reason, by=caller.name)
        became.append("it claims no more")
    return drain


async def undrain_worker(request: Request, caller: Caller, owner: str) -> None:
    """Have a worker claim tasks again. Raises ``UnknownWorker``."""
    with acting(request, caller, "undrain", f"of worker {owner!r}") as became:
        await state_of(request).manager.store.ops.undrain(owner)
        became.append("it claims again")
