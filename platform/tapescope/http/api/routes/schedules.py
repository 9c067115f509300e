"""Schedules."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query, Request, Response

from tapescope.http.api import schemas
from tapescope.http.api.routes.openapi import BODY, problems, takes
from tapescope.http.api.routes.requests import (
    Admin,
    Limit,
    Reader,
    Submitter,
    cursor_of,
    make_router,
    page_size,
    read_body,
    reply,
    reply_submitted,
)
from tapescope.http.api.schedule_acts import (
    add_schedule,
    list_visible,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    see_schedule,
    trigger_schedule,
)
from tapescope.model.json_shapes import schedule_shape, schedules_shape

__all__ = ["router"]

router = make_router()


ScheduleName = Annotated[str, Path(examples=["nightly"])]


@router.get(
    "/schedules", response_model=schemas.Schedules, responses=problems(), tags=["schedules"]
)
async def list_schedules(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List schedules, by name: those whose tasks the caller may read."""
    with cursor_of(cursor):
        page = await list_visible(request, caller, cursor, page_size(request, limit))
    return reply(schedules_shape(page))


@router.post(
    "/schedules",
    status_code=201,
    response_model=schemas.ScheduleAdded,
    responses={
        200: {"model": schemas.ScheduleAdded, "description": "The store had it, as it is given"},
        **problems(409, *BODY),
    },
    openapi_extra=takes(schemas.ScheduleBody, required=True),
    tags=["schedules"],
)
async def post_schedule(request: Request, caller: Admin) -> Response:
    """Add a schedule of an op that this server or a worker has registered.

    One of the name that is not as it is given here stays as it is: 409.
    """
    body = await read_body(request, schemas.ScheduleBody, required=True)
    schedule, added = await add_schedule(request, caller, body)
    return reply(
        schedule_shape(schedule) | {"created": added},
        201 if added else 200,
        {"Location": f"{request.scope.get('root_path', '')}/v1/schedules/{schedule.name}"},
    )


@router.get(
    "/schedules/{name}",
    response_model=schemas.ScheduleRow,
    responses=problems(404),
    tags=["schedules"],
)
async def get_schedule(request: Request, caller: Reader, name: ScheduleName) -> Response:
    """A schedule as its row stands now."""
    return reply(schedule_shape(await see_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/pause",
    response_model=schemas.ScheduleRow,
    responses=problems(404),
    tags=["schedules"],
)
async def pause(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Have a schedule make no tasks until it is resumed."""
    return reply(schedule_shape(await pause_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/resume",
    response_model=schemas.ScheduleRow,
    responses=problems(404),
    tags=["schedules"],
)
async def resume(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Have a schedule make tasks again, at its times from now on."""
    return reply(schedule_shape(await resume_schedule(request, caller, name)))


@router.post(
    "/schedules/{name}/trigger",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "The idempotency key led to this task"},
        **problems(404, 409, 429),
    },
    tags=["schedules"],
)
async def trigger(
    request: Request,
    caller: Submitter,
    name: ScheduleName,
    idempotency_key: Annotated[
        str | None, Header(description="The same schedule and key again give the same task.")
    ] = None,
) -> Response:
    """Make a task of a schedule now, paused or not; its times stay as they are."""
    handle, op = await trigger_schedule(request, caller, name, idempotency_key)
    return reply_submitted(request, handle, op)


@router.delete(
    "/schedules/{name}",
    response_model=schemas.ScheduleRow,
    responses=problems(404),
    tags=["schedules"],
)
async def delete_schedule(request: Request, caller: Admin, name: ScheduleName) -> Response:
    """Delete a schedule, and show it once more; the tasks that it made stay.

    One whose origin is `code` comes back with the next worker that declares it: pause it.
    """
    return reply(schedule_shape(await remove_schedule(request, caller, name)))
