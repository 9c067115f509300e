"""The pages of workers, and the forms that have one claim no more tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response

from tapescope.errors import UnknownWorker
from tapescope.http.access import Caller, Scope
from tapescope.http.api.page.page_route import PageRoute, enter, go_to, read_form, read_query
from tapescope.http.api.page.rendering import now_us, render
from tapescope.http.api.state import state_of
from tapescope.http.api.stop_acts import (
    drain_worker,
    list_workers,
    may_see_workers,
    undrain_worker,
)
from tapescope.http.api.task_acts import need_ops
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.tasks import Task, TaskStatus

if TYPE_CHECKING:
    from tapescope.model.ops import WorkerState

__all__ = ["router"]

_PAGE: Final = 50
_RUNNING: Final = 500
"""Running tasks that the page of the workers looks at."""
_CHUNK: Final = 100
_LOOKED: Final = 1_000
"""Workers that are looked at for one whose name is known: those that begin as it does."""

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/workers")
async def show_workers(request: Request) -> Response:
    """Who works: the workers, the ops, and the owners of what runs."""
    caller = await enter(request)
    query = read_query(request, "cursor")
    need_ops(caller)
    state = state_of(request)
    store = state.manager.store
    backlog = await store.backlog.read()
    ops = caller.find_ops(Scope.READ)
    owners: dict[str, list[Task]] = {}
    lost: dict[str, str] = {}
    more = False
    for op in [None] if ops is None else sorted(ops):
        page = await store.list(status=TaskStatus.RUNNING, op=op, limit=_RUNNING, params=False)
        more = more or page.next is not None
        lost |= find_lost(store, page.tasks, now_us())
        for task in page.tasks:
            owners.setdefault(task.owner or "", []).append(task)
    workers = None
    if may_see_workers(caller):
        workers = await list_workers(request, caller, query.get("cursor"), _PAGE)
    following = None if workers is None else workers.next
    return await render(
        request,
        "workers.html",
        workers=workers,
        here="/workers" + (f"?{urlencode(query)}" if query else ""),
        first="cursor" not in query,
        following=None if following is None else f"/workers?{urlencode({'cursor': following})}",
        ops=[one for one in backlog.ops if caller.may(Scope.READ, one.op)],
        owners=sorted(owners.items()),
        lost=lost,
        more=more,
        checks=state.manager.check_health() if caller.may(Scope.READ) else (),
    )


@router.get("/workers/{owner}")
async def show_worker(request: Request, owner: str) -> Response:
    """One worker: since when it works, on what, what it runs, and whether it drains."""
    caller = await enter(request)
    query = read_query(request, "did")
    worker = await _find_worker(request, caller, owner)
    store = state_of(request).manager.store
    running = await store.list(status=TaskStatus.RUNNING, owner=owner, limit=_PAGE, params=False)
    lost = find_lost(store, running.tasks, now_us())
    return await render(
        request,
        "worker.html",
        worker=worker,
        running=running.tasks,
        statuses=dict.fromkeys(lost, "lost"),
        did=query.get("did"),
    )


async def _find_worker(request: Request, caller: Caller, owner: str) -> WorkerState:
    """The worker, or other owner of what runs, of this name.

    Raises ``UnknownWorker``, and ``Refused`` for a token of some ops.
    """
    after, left = owner[:-1], _LOOKED  # what is listed behind it begins with the name itself
    while left > 0:
        page = await list_workers(request, caller, after, _CHUNK)
        for one in page.workers:
            if one.owner == owner:
                return one
        if page.next is None:
            break
        after, left = page.next, left - _CHUNK
    raise UnknownWorker(owner)


@router.post("/workers/{owner}/drain")
async def send_drain(request: Request, owner: str) -> Response:
    """Have it claim no more tasks, with a reason."""
    caller = await enter(request, Scope.ADMIN)
    form = dict(await read_form(request))
    await drain_worker(request, caller, owner, form.get("reason", "").strip())
    return go_to(request, f"/workers/{quote(owner, safe='')}?did=drain")


@router.post("/workers/{owner}/undrain")
async def send_undrain(request: Request, owner: str) -> Response:
    """Have it claim tasks again."""
    caller = await enter(request, Scope.ADMIN)
    await read_form(request)
    await undrain_worker(request, caller, owner)
    return go_to(request, f"/workers/{quote(owner, safe='')}?did=undrain")
