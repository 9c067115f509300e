"""One task: its submit, its row, its end, its messages; and the list of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response

from tapescope.errors import UnknownTask
from tapescope.http.access import Scope
from tapescope.http.api import schemas
from tapescope.http.api.parsing import parse_time
from tapescope.http.api.routes.openapi import BODY, problems, takes
from tapescope.http.api.routes.requests import (
    Canceller,
    Limit,
    Reader,
    Submitter,
    TaskId,
    Time,
    Wait,
    cursor_of,
    make_router,
    page_size,
    read_body,
    reply,
    reply_submitted,
    wait_for,
)
from tapescope.http.api.search import LOOKED, find_tasks
from tapescope.http.api.state import state_of
from tapescope.http.api.task_acts import (
    cancel_task,
    need_named,
    reach,
    retry_task,
    send_message,
    submit_task,
)
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.json_shapes import (
    cancel_shape,
    list_shape,
    messages_shape,
    sent_shape,
    task_shape,
    traced_shape,
)
from tapescope.model.tasks import TaskStatus
from tapescope.store.follow import await_final

__all__ = ["router"]

router = make_router()


@router.get("/tasks", response_model=schemas.Tasks, responses=problems(), tags=["tasks"])
async def list_tasks(
    request: Request,
    caller: Reader,
    status: Annotated[TaskStatus | None, Query()] = None,
    op: Annotated[str | None, Query(description="Of this op.")] = None,
    owner: Annotated[str | None, Query(description="Of this manager.")] = None,
    queue: Annotated[str | None, Query(description="Of this queue.")] = None,
    key: Annotated[str | None, Query(description="With this idempotency key.")] = None,
    tag: Annotated[str | None, Query(description="With this tag.")] = None,
    parent: Annotated[
        str | None, Query(description="Submitted by the runner of this task.")
    ] = None,
    text: Annotated[
        str | None,
        Query(
            description="With this text, in whatever case, in its op, owner, keys, tags, params, "
            f"error code, or the words of its cancel. A page looks through {LOOKED:,} tasks: it "
            "may have none, and yet a 'next'."
        ),
    ] = None,
    since: Annotated[Time, Query(description="Created then or later.")] = None,
    until: Annotated[Time, Query(description="Created before then.")] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(description="The 'next' of another page.")] = None,
) -> Response:
    """List tasks, newest first. A token for some ops or tags must name one of them, or a parent:
    of that one's tasks it has those that it may see, and a page with none may have a next."""
    sees_all = caller.may(Scope.READ, op, () if tag is None else (tag,))
    if parent is None:
        need_named(caller, Scope.READ, op, tag)
    store = state_of(request).manager.store
    with cursor_of(cursor, "before"):
        read = partial(
            store.list,
            status=status,
            op=op,
            owner=owner,
            queue=queue,
            idempotency_key=key,
            tag=tag,
            parent_id=parent,
            since=parse_time("since", since),
            until=parse_time("until", until),
        )
        most = page_size(request, limit)
        if text is None and sees_all:
            page = await read(limit=most, before=cursor)
        else:  # the place of the next page, too, tells of no task that the caller may not see
            page = await find_tasks(
                lambda before, many: read(limit=many, before=before),
                cursor,
                most,
                text=text,
                sees=lambda task: caller.may(Scope.READ, task.op, task.tags),
            )
    lost = find_lost(store, page.tasks, store.clock.now())
    tasks = [task_shape(task) | {"lost": lost.get(task.task_id)} for task in page.tasks]
    return reply(list_shape(page) | {"tasks": tasks})


@router.post(
    "/tasks",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "A key led to this task"},
        **problems(409, 429, *BODY),
    },
    openapi_extra=takes(schemas.SubmitBody, required=True),
    tags=["tasks"],
)
async def submit(
    request: Request,
    caller: Submitter,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same op and key again give the same task, and run it once."),
    ] = None,
) -> Response:
    """Submit a task by the name of its op, which this server or a worker has registered.

    The answer comes once the task is stored. Ask for its row with the `Location`.
    """
    body = await read_body(request, schemas.SubmitBody, required=True)
    handle = await submit_task(
        request,
        caller,
        body.op,
        params=body.params,
        timeout=body.timeout,
        retries=body.retries,
        priority=body.priority,
        tags=body.tags,
        queue=body.queue,
        expires_in=body.expires_in,
        delay=body.delay,
        run_at=parse_time("run_at", body.run_at),
        idempotency_key=idempotency_key,
        unique_key=body.unique_key,
        concurrency_key=body.concurrency_key,
    )
    # Its row is not read: an answer that fails now would have a client submit the task again.
    return reply_submitted(request, handle, body.op)


@router.get(
    "/tasks/{task_id}", response_model=schemas.TaskRow, responses=problems(404), tags=["tasks"]
)
async def get_task(request: Request, caller: Reader, task_id: TaskId) -> Response:
    """A task as its row stands now."""
    task = await state_of(request).manager.handle(task_id).status()
    if not caller.may(Scope.READ, task.op, task.tags):
        raise UnknownTask(task_id)
    store = state_of(request).manager.store
    lost = find_lost(store, [task], store.clock.now())
    return reply(task_shape(task) | {"lost": lost.get(task_id)})


@router.get(
    "/tasks/{task_id}/result",
    response_model=schemas.Result,
    responses={
        202: {"model": schemas.Waiting, "description": "The task has not ended"},
        **problems(404),
    },
    tags=["tasks"],
)
async def get_result(request: Request, caller: Reader, task_id: TaskId, wait: Wait = 0) -> Response:
    """How the task ended: with its result, its error or its cancel. 202 while it has not."""
    await reach(request, caller, Scope.READ, task_id)
    state = state_of(request)
    store = state.manager.store
    task = await state.manager.handle(task_id).status()
    if not task.status.terminal and wait:
        with state.seats.seated():
            await wait_for(request, await_final(store, task_id), wait)
        task = await state.manager.handle(task_id).status()
    if not task.status.terminal:
        return reply({"task_id": task_id, "status": task.status.value}, 202)
    final = await await_final(store, task_id)
    return reply({"task_id": task_id} | final.as_json())


@router.post(
    "/tasks/{task_id}/cancel",
    response_model=schemas.Cancelled,
    responses=problems(404, *BODY),
    openapi_extra=takes(schemas.CancelBody),
    tags=["tasks"],
)
async def cancel(request: Request, caller: Canceller, task_id: TaskId) -> Response:
    """Request a cancel. The answer comes once it is recorded, not once the task has ended.

    The first request stays; another one changes nothing. The tape says whose token it was. A task
    whose owner is lost is taken from it, and has ended.
    """
    body = await read_body(request, schemas.CancelBody, required=False)
    answer, lost = await cancel_task(request, caller, task_id, body.message)
    asked = None if answer.request is None else cancel_shape(answer.request)
    shape = {"task_id": task_id, "state": answer.state.value, "request": asked, "lost": lost}
    return reply(shape)


@router.post(
    "/tasks/{task_id}/messages",
    status_code=201,
    response_model=schemas.Sent,
    responses={
        200: {"model": schemas.Sent, "description": "It was there already, by its key"},
        **problems(404, 409, *BODY),
    },
    openapi_extra=takes(schemas.MessageBody),
    tags=["tasks"],
)
async def send(
    request: Request,
    caller: Submitter,
    task_id: TaskId,
    idempotency_key: Annotated[
        str | None,
        Header(description="Names the message: the same again adds nothing. Else one is made."),
    ] = None,
) -> Response:
    """Send a message to a task, which its runner takes: it needs the scope to submit the op.

    The answer comes once it is durable, not once it is taken. An ended task takes none.
    """
    body = await read_body(request, schemas.MessageBody, required=True)
    sent = await send_message(request, caller, task_id, body.body, idempotency_key)
    return reply(sent_shape(task_id, sent), 201 if sent.new else 200)


@router.get(
    "/tasks/{task_id}/messages",
    response_model=schemas.Messages,
    responses=problems(404),
    tags=["tasks"],
)
async def list_messages(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    after: Annotated[int, Query(ge=0, description="The 'next' of another page.")] = 0,
    limit: Limit = 100,
) -> Response:
    """The messages of a task, taken or not, by number."""
    await reach(request, caller, Scope.READ, task_id)
    handle, most = state_of(request).manager.handle(task_id), page_size(request, limit)
    return reply(messages_shape(task_id, await handle.messages(after=after, limit=most)))


@router.post(
    "/tasks/{task_id}/retry",
    status_code=201,
    response_model=schemas.Submitted,
    responses={
        200: {"model": schemas.Submitted, "description": "The idempotency key led to this task"},
        **problems(404, 409, 429),
    },
    tags=["tasks"],
)
async def retry(
    request: Request,
    caller: Submitter,
    task_id: TaskId,
    idempotency_key: Annotated[
        str | None, Header(description="Of the new task: as for a submit.")
    ] = None,
) -> Response:
    """Submit an ended task again: a new one, with its op, params, timeout and retries."""
    handle, op = await retry_task(request, caller, task_id, idempotency_key)
    return reply_submitted(request, handle, op)


@router.get(
    "/tasks/{task_id}/traces",
    response_model=schemas.Attempts,
    responses=problems(404),
    tags=["tasks"],
)
async def get_task_traces(request: Request, caller: Reader, task_id: TaskId) -> Response:
    """The task's attempts whose run spans were recorded: where its traces are."""
    await reach(request, caller, Scope.READ, task_id)
    manager = state_of(request).manager
    found = await manager.store.read_traced([task_id])
    if not found:
        await manager.handle(task_id).status()  # raises, where there is no such task
    return reply({"attempts": [traced_shape(one) for one in found]})
