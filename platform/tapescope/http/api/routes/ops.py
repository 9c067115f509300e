"""Pauses of ops, and the workers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request, Response

from tapescope.http.api import schemas
from tapescope.http.api.routes.openapi import BODY, problems, takes
from tapescope.http.api.routes.requests import (
    Admin,
    Limit,
    Reader,
    cursor_of,
    make_router,
    page_size,
    read_body,
    reply,
)
from tapescope.http.api.stop_acts import (
    drain_worker,
    list_visible_pauses,
    list_workers,
    pause_op,
    resume_op,
    undrain_worker,
)
from tapescope.model.json_shapes import drain_shape, pause_shape, pauses_shape, workers_shape

__all__ = ["router"]

router = make_router()


OpName = Annotated[str, Path(examples=["resize"])]
WorkerOwner = Annotated[str, Path(examples=["web-1:4711:90210-1.2-b0:f3a9c1"])]


@router.get("/pauses", response_model=schemas.Pauses, responses=problems(), tags=["ops"])
async def list_pauses(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List the ops that are paused, by name: those that the caller may read.

    It takes a token for an op.
    """
    with cursor_of(cursor):
        page = await list_visible_pauses(request, caller, cursor, page_size(request, limit))
    return reply(pauses_shape(page))


@router.post(
    "/ops/{op}/pause",
    response_model=schemas.Pause,
    responses=problems(*BODY),
    openapi_extra=takes(schemas.StopBody),
    tags=["ops"],
)
async def post_op_pause(request: Request, caller: Admin, op: OpName) -> Response:
    """Have no worker claim tasks of an op, until it is resumed. What runs goes on.

    The first pause stays, with who asked for it and why; another one changes nothing. The op need
    not be registered.
    """
    body = await read_body(request, schemas.StopBody, required=False)
    return reply(pause_shape(await pause_op(request, caller, op, body.reason)))


@router.post("/ops/{op}/resume", response_model=schemas.Resumed, responses=problems(), tags=["ops"])
async def post_op_resume(request: Request, caller: Admin, op: OpName) -> Response:
    """Have the workers claim tasks of an op again; an op that is not paused stays so."""
    ended = await resume_op(request, caller, op)
    return reply({"op": op, "was": None if ended is None else pause_shape(ended)})


@router.get("/workers", response_model=schemas.Workers, responses=problems(), tags=["ops"])
async def get_workers(
    request: Request,
    caller: Reader,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List who works on the store, by owner: its workers, and other owners of tasks that run.

    It takes a token for every op.
    """
    with cursor_of(cursor):
        page = await list_workers(request, caller, cursor, page_size(request, limit))
    return reply(workers_shape(page))


@router.post(
    "/workers/{owner}/drain",
    response_model=schemas.Drained,
    responses=problems(404, *BODY),
    openapi_extra=takes(schemas.StopBody),
    tags=["ops"],
)
async def post_drain(request: Request, caller: Admin, owner: WorkerOwner) -> Response:
    """Have one worker claim no more tasks. What it runs goes on, and so does its process.

    The first drain stays; another one changes nothing. It ends with an undrain, or with the worker.
    """
    body = await read_body(request, schemas.StopBody, required=False)
    drain = await drain_worker(request, caller, owner, body.reason)
    return reply({"owner": owner, "drain": drain_shape(drain)})


@router.post(
    "/workers/{owner}/undrain",
    response_model=schemas.Undrained,
    responses=problems(404),
    tags=["ops"],
)
async def post_undrain(request: Request, caller: Admin, owner: WorkerOwner) -> Response:
    """Have a worker claim tasks again."""
    await undrain_worker(request, caller, owner)
    return reply({"owner": owner})
