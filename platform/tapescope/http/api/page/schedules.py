"""The pages of schedules, and the forms that change them."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from tapescope.errors import BadSetting
from tapescope.http.access import Scope
from tapescope.http.api.page.page_route import PageRoute, enter, go_to, read_form, read_query
from tapescope.http.api.page.payloads import show_value
from tapescope.http.api.page.rendering import render
from tapescope.http.api.page.schedule_view import list_upcoming, view_schedules
from tapescope.http.api.schedule_acts import (
    list_visible,
    pause_schedule,
    resume_schedule,
    see_schedule,
    trigger_schedule,
)
from tapescope.http.api.state import state_of

__all__ = ["router"]

_PAGE: Final = 50

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/schedules")
async def show_schedules(request: Request) -> Response:
    """Schedules, by name: when each fires next, and what became of its last time."""
    caller = await enter(request)
    query = read_query(request, "cursor")
    store = state_of(request).manager.store
    page = await list_visible(request, caller, query.get("cursor"), _PAGE)
    backlog = await store.backlog.read()
    ops = {one.op: one for one in backlog.ops}
    return await render(
        request,
        "schedules.html",
        views=await view_schedules(store, page.schedules, ops, caller),
        here="/schedules" + (f"?{urlencode(query)}" if query else ""),
        first="cursor" not in query,
        following=None if page.next is None else f"/schedules?{urlencode({'cursor': page.next})}",
    )


@router.get("/schedules/{name}")
async def show_schedule(request: Request, name: str) -> Response:
    """One schedule: its times, what it submits, and what can be done with it."""
    caller = await enter(request)
    query = read_query(request, "did")
    store = state_of(request).manager.store
    schedule = await see_schedule(request, caller, name)
    backlog = await store.backlog.read()
    ops = {one.op: one for one in backlog.ops}
    (view,) = await view_schedules(store, [schedule], ops, caller)
    try:
        upcoming = list_upcoming(schedule, store.due_clock.now())
    except BadSetting:  # its row was written past tapescope: no times can be read of it
        upcoming = []
    return await render(
        request,
        "schedule.html",
        view=view,
        params=show_value(schedule.params) if schedule.params else None,
        upcoming=upcoming,
        did=query.get("did"),
        key=f"page-{secrets.token_hex(12)}",
    )


@router.post("/schedules/{name}/pause")
async def send_pause(request: Request, name: str) -> Response:
    """Have it make no tasks."""
    caller = await enter(request, Scope.ADMIN)
    await read_form(request)
    schedule = await pause_schedule(request, caller, name)
    return go_to(request, f"/schedules/{schedule.name}?did=pause")


@router.post("/schedules/{name}/resume")
async def send_resume(request: Request, name: str) -> Response:
    """Have it make tasks again."""
    caller = await enter(request, Scope.ADMIN)
    await read_form(request)
    schedule = await resume_schedule(request, caller, name)
    return go_to(request, f"/schedules/{schedule.name}?did=resume")


@router.post("/schedules/{name}/trigger")
async def send_trigger(request: Request, name: str) -> Response:
    """Make a task of it now, and go there. The form has a key: sent twice it makes one task."""
    caller = await enter(request, Scope.SUBMIT)
    key = dict(await read_form(request)).get("key", "").strip() or None
    handle, _ = await trigger_schedule(request, caller, name, key)
    return go_to(request, f"/tasks/{handle.task_id}")
