"""Many tasks in one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header, Request, Response

from tapescope.errors import BadSetting
from tapescope.http.access import Caller, Scope
from tapescope.http.api import schemas
from tapescope.http.api.parsing import parse_time
from tapescope.http.api.problems import describe
from tapescope.http.api.routes.openapi import BODY, problems, takes
from tapescope.http.api.routes.requests import (
    Canceller,
    Submitter,
    cursor_of,
    make_router,
    read_body,
    reply,
)
from tapescope.http.api.search import merge_pages
from tapescope.http.api.state import state_of
from tapescope.http.api.task_acts import cancel_chosen, need_named, retry_chosen, submit_tasks
from tapescope.model.tasks import TaskPage, TaskStatus

if TYPE_CHECKING:
    from tapescope.manager import TaskHandle

__all__ = ["router"]

router = make_router()


@router.post(
    "/tasks:batch",
    response_model=schemas.SubmittedMany,
    responses=problems(429, *BODY),
    openapi_extra=takes(schemas.SubmitManyBody, required=True),
    tags=["tasks"],
)
async def submit_batch(request: Request, caller: Submitter) -> Response:
    """Submit many tasks at once, each with an idempotency key of its own.

    The answer has what became of each, in their order. One that is refused stops no other. Where
    the store cannot be used the whole is a problem: send it again, and what has a key is made once.
    """
    body = await read_body(request, schemas.SubmitManyBody, required=True)
    most = state_of(request).limits.batch
    if not 1 <= len(body.tasks) <= most:
        raise BadSetting("tasks", len(body.tasks), f"1 to {most:,} tasks")
    made = await submit_tasks(request, caller, body.tasks)
    shapes = [
        {"op": one.op} | _tell_submitted(became)
        for one, became in zip(body.tasks, made, strict=True)
    ]
    return reply({"tasks": shapes})


@router.post(
    "/tasks:cancel",
    response_model=schemas.CancelledMany,
    responses=problems(*BODY),
    openapi_extra=takes(schemas.CancelManyBody, required=True),
    tags=["tasks"],
)
async def cancel_many(request: Request, caller: Canceller) -> Response:
    """Request the cancel of all tasks that meet some conditions: a page of them, newest first.

    The answer has what became of each. Ask again with its `next` as `cursor` until that is null. A
    token for some ops or tags must name one of them.
    """
    body = await read_body(request, schemas.CancelManyBody, required=True)
    conditions = body.model_dump(exclude={"message", "limit", "cursor"}, exclude_none=True)
    if not conditions:
        raise BadSetting("the body", "{}", "a condition, such as op, tag, status or since")
    page = await _choose(
        request,
        caller,
        Scope.CANCEL,
        body,
        [TaskStatus(body.status)] if body.status else [TaskStatus.PENDING, TaskStatus.RUNNING],
    )
    told = await cancel_chosen(request, caller, page.tasks, body.message)
    shapes = [
        {"task_id": task.task_id, "state": None, "problem": describe(became)[0]}
        if isinstance(became, Exception)
        else {"task_id": task.task_id, "state": became.state.value, "problem": None}
        for task, became in zip(page.tasks, told, strict=True)
    ]
    return reply({"tasks": shapes, "next": page.next})


@router.post(
    "/tasks:retry",
    response_model=schemas.RetriedMany,
    responses=problems(429, *BODY),
    openapi_extra=takes(schemas.RetryManyBody, required=True),
    tags=["tasks"],
)
async def retry_many(
    request: Request,
    caller: Submitter,
    idempotency_key: Annotated[
        str | None,
        Header(description="Each new task has it, and the old one's id, as its key: it is once."),
    ] = None,
) -> Response:
    """Submit all ended tasks again that meet some conditions: a page of them, newest first.

    The answer has what became of each. Ask again with its `next` as `cursor` until that is null. A
    token for some ops or tags must name one of them.
    """
    body = await read_body(request, schemas.RetryManyBody, required=True)
    page = await _choose(request, caller, Scope.SUBMIT, body, [TaskStatus(body.status)])
    told = await retry_chosen(request, caller, page.tasks, idempotency_key)
    shapes: list[dict[str, Any]] = []
    for task, became in zip(page.tasks, told, strict=True):
        shape = _tell_submitted(became)
        shapes.append(shape | {"task_id": task.task_id, "new_task_id": shape["task_id"]})
    return reply({"tasks": shapes, "next": page.next})


async def _choose(
    request: Request,
    caller: Caller,
    scope: Scope,
    body: schemas.CancelManyBody | schemas.RetryManyBody,
    statuses: Sequence[TaskStatus],
) -> TaskPage:
    """A page of the tasks of these statuses that meet the conditions. Raises ``Refused``."""
    need_named(caller, scope, body.op, body.tag)
    state = state_of(request)
    if body.limit > state.limits.batch:
        raise BadSetting("limit", body.limit, f"at most {state.limits.batch:,} on this server")
    with cursor_of(body.cursor, "before"):
        pages = [
            await state.manager.store.list(
                status=status,
                op=body.op,
                owner=body.owner,
                queue=body.queue,
                idempotency_key=body.key,
                tag=body.tag,
                parent_id=body.parent,
                since=parse_time("since", body.since),
                until=parse_time("until", body.until),
                limit=body.limit,
                before=body.cursor,
                params=False,
            )
            for status in statuses
        ]
    return merge_pages(pages, body.limit)


def _tell_submitted(became: TaskHandle | Exception) -> dict[str, Any]:
    """What became of one submit of many."""
    if isinstance(became, Exception):
        problem, _ = describe(became)
        return {"task_id": None, "created": False, "found_by": None, "problem": problem}
    return {
        "task_id": became.task_id,
        "created": bool(became.created),
        "found_by": became.found_by,
        "problem": None,
    }
